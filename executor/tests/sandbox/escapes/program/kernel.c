/* What belongs to the kernel as a whole: keys, programs in it, modules, clocks, names, memory. */

#include "attempt.h"
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/reboot.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <time.h>

static int add_key(char **a) {
    (void)a;
    return came_of(syscall(SYS_add_key, "user", MARK, "x", 1, KEY_SPEC_USER_KEYRING));
}

static int request_key(char **a) {
    (void)a;
    return came_of(syscall(SYS_request_key, "user", MARK, MARK, KEY_SPEC_SESSION_KEYRING));
}

static int session_keyring(char **a) {
    (void)a;
    return came_of(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
}

static int join_keyring(char **a) {
    (void)a;
    return came_of(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, MARK));
}

static int bpf_program(char **a) {
    (void)a;
    struct bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
    union bpf_attr program;
    memset(&program, 0, sizeof program);
    program.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    program.insns = (uintptr_t)code;
    program.insn_cnt = 2;
    program.license = (uintptr_t) "GPL";
    return came_of(syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof program));
}

static int perf_events(char **a) {
    (void)a;
    struct perf_event_attr event;
    memset(&event, 0, sizeof event);
    event.type = PERF_TYPE_SOFTWARE;
    event.size = sizeof event;
    event.config = PERF_COUNT_SW_CPU_CLOCK;
    return came_of(syscall(SYS_perf_event_open, &event, -1, 0, -1, 0));
}

static int page_faults(char **a) {
    (void)a;
    return came_of(syscall(SYS_userfaultfd, O_CLOEXEC));
}

static int new_kernel(char **a) {
    (void)a;
    return came_of(syscall(SYS_kexec_load, 0, 0, 0, 0));
}

static int new_kernel_file(char **a) {
    (void)a;
    int self = open("/proc/self/exe", O_RDONLY);
    return came_of(syscall(SYS_kexec_file_load, self, -1, 1, "", 4 /* KEXEC_FILE_NO_INITRAMFS */));
}

static int module_from_memory(char **a) {
    (void)a;
    return came_of(syscall(SYS_init_module, "\177ELF", 4, ""));
}

static int module_from_file(char **a) {
    (void)a;
    return came_of(syscall(SYS_finit_module, open("/proc/self/exe", O_RDONLY), "", 0));
}

static int module_removal(char **a) {
    (void)a;
    return came_of(syscall(SYS_delete_module, "kiln_escape", O_NONBLOCK));
}

#ifdef SYS_iopl
static int ports(char **a) {
    (void)a;
    return came_of(syscall(SYS_iopl, 3));
}

static int one_port(char **a) {
    (void)a;
    return came_of(syscall(SYS_ioperm, 0x80, 1, 1));
}
#endif

/* Only says what Ctrl-Alt-Del shall do. */
static int reboot(char **a) {
    (void)a;
    return came_of(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF, 0));
}

/* PATH */
static int swap_on(char **a) {
    return came_of(syscall(SYS_swapon, a[0], 0));
}

/* PATH */
static int swap_off(char **a) {
    return came_of(syscall(SYS_swapoff, a[0]));
}

/* In 2001. */
static int set_day(char **a) {
    (void)a;
    struct timeval time = {1000000000, 0};
    return came_of(syscall(SYS_settimeofday, &time, NULL));
}

static int set_clock(char **a) {
    (void)a;
    struct timespec time = {1000000000, 0};
    return came_of(syscall(SYS_clock_settime, CLOCK_REALTIME, &time));
}

static int adjust_clock(char **a) {
    (void)a;
    struct timex change;
    memset(&change, 0, sizeof change);
    change.modes = ADJ_SETOFFSET;
    change.time.tv_sec = -1000000000;
    return came_of(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &change));
}

static int tick_otherwise(char **a) {
    (void)a;
    struct timex change;
    memset(&change, 0, sizeof change);
    change.modes = ADJ_TICK;
    change.tick = 10001;
    return came_of(syscall(SYS_adjtimex, &change));
}

static int set_host_name(char **a) {
    (void)a;
    return came_of(sethostname(MARK, strlen(MARK)));
}

static int set_domain_name(char **a) {
    (void)a;
    return came_of(setdomainname(MARK, strlen(MARK)));
}

/* PATH */
static int accounting(char **a) {
    close(open(a[0], O_CREAT | O_WRONLY, 0600));
    return came_of(acct(a[0]));
}

static int quotas(char **a) {
    (void)a;
    return came_of(syscall(SYS_quotactl, 0x80000100 /* Q_SYNC */, NULL, 0, NULL));
}

static int kernel_log(char **a) {
    (void)a;
    char text[4096];
    return came_of(syscall(SYS_syslog, 3 /* SYSLOG_ACTION_READ_ALL */, text, sizeof text));
}

static int watch_everything(char **a) {
    (void)a;
    return came_of(syscall(SYS_fanotify_init, 0, O_RDONLY));
}

static int rings(char **a) {
    (void)a;
    char parameters[256] = {0};
    return came_of(syscall(425 /* io_uring_setup */, 1, parameters));
}

/* PERSONA */
static int persona(char **a) {
    return came_of(syscall(SYS_personality, number(a[0])));
}

static int memory_map(char **a) {
    (void)a;
    return came_of(prctl(PR_SET_MM, PR_SET_MM_START_STACK, (unsigned long)a, 0, 0));
}

static int hang_up(char **a) {
    (void)a;
    return came_of(syscall(SYS_vhangup));
}

/* FAMILY TYPE */
static int family(char **a) {
    return came_of(syscall(SYS_socket, number(a[0]), number(a[1]), 0));
}

/* The way of 32-bit programs, under which numbers mean other things: `mount`. */
static int mount_the_old_way(char **a) {
    (void)a;
#ifdef __x86_64__
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED)
        return MISUSED;
    strcpy(low, MARK);
    strcpy(low + 64, "/tmp");
    strcpy(low + 128, "tmpfs");
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(21), "b"(low), "c"(low + 64), "d"(low + 128), "S"(0), "D"(0)
                     : "memory", "r8", "r9", "r10", "r11");
    return result < 0 ? (int)-result : 0;
#else
    return EPERM;
#endif
}

/* CALL: the numbers of x32 are those of x86-64 with one bit more. */
static int the_x32_way(char **a) {
    return came_of(syscall(0x40000000 | number(a[0]), MARK, "/tmp", "tmpfs", 0, 0));
}

/* A filter of one's own comes on top of those that are there: `mount` under one that allows everything. */
static int weaken_filter(char **a) {
    (void)a;
    struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return MISUSED;
    return came_of(syscall(SYS_mount, MARK, "/tmp", "tmpfs", 0, NULL));
}

static int switch_filter_off(char **a) {
    (void)a;
    return came_of(prctl(PR_SET_SECCOMP, 0 /* SECCOMP_MODE_DISABLED */, 0, 0, 0));
}

/* NICE */
static int priority(char **a) {
    return came_of(setpriority(PRIO_PROCESS, 0, (int)number(a[0])));
}

static int real_time(char **a) {
    (void)a;
    int highest[1] = {99};
    return came_of(syscall(SYS_sched_setscheduler, 0, 1 /* SCHED_FIFO */, highest));
}

static int raise_limit(char **a) {
    (void)a;
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_max == RLIM_INFINITY)
        return MISUSED;
    limit.rlim_max = RLIM_INFINITY;
    return came_of(setrlimit(RLIMIT_MEMLOCK, &limit));
}

static int raise_files(char **a) {
    (void)a;
    struct rlimit limit = {16, 16};
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return MISUSED;
    limit.rlim_max = 32;
    return came_of(setrlimit(RLIMIT_NOFILE, &limit));
}

static int all_capabilities(char **a) {
    (void)a;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {{~0u, ~0u, ~0u}, {0x1ff, 0x1ff, 0x1ff}};
    return came_of(syscall(SYS_capset, &header, all));
}

/* CAPABILITY */
static int ambient_capability(char **a) {
    return came_of(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number(a[0]), 0, 0));
}

/* Whether physical addresses can be told from virtual ones. */
static int physical_addresses(char **a) {
    (void)a;
    static char page[4096] = "here";
    uint64_t entry = 0;
    int map = open("/proc/self/pagemap", O_RDONLY);
    if (map < 0)
        return errno;
    if (pread(map, &entry, sizeof entry, (off_t)((uintptr_t)page / 4096 * 8)) != sizeof entry)
        return errno;
    return entry & ((1ull << 55) - 1) ? 0 : EPERM;
}

const struct named kernel[] = {
    {"add-key", 0, add_key},
    {"request-key", 0, request_key},
    {"session-keyring", 0, session_keyring},
    {"join-keyring", 0, join_keyring},
    {"bpf", 0, bpf_program},
    {"perf", 0, perf_events},
    {"userfaultfd", 0, page_faults},
    {"kexec", 0, new_kernel},
    {"kexec-file", 0, new_kernel_file},
    {"init-module", 0, module_from_memory},
    {"finit-module", 0, module_from_file},
    {"delete-module", 0, module_removal},
#ifdef SYS_iopl
    {"iopl", 0, ports},
    {"ioperm", 0, one_port},
#endif
    {"reboot", 0, reboot},
    {"swapon", 1, swap_on},
    {"swapoff", 1, swap_off},
    {"settimeofday", 0, set_day},
    {"clock-settime", 0, set_clock},
    {"clock-adjtime", 0, adjust_clock},
    {"adjtimex", 0, tick_otherwise},
    {"sethostname", 0, set_host_name},
    {"setdomainname", 0, set_domain_name},
    {"acct", 1, accounting},
    {"quotactl", 0, quotas},
    {"syslog", 0, kernel_log},
    {"fanotify", 0, watch_everything},
    {"io-uring", 0, rings},
    {"personality", 1, persona},
    {"set-mm", 0, memory_map},
    {"vhangup", 0, hang_up},
    {"socket", 2, family},
    {"int80", 0, mount_the_old_way},
    {"x32", 1, the_x32_way},
    {"weaken-filter", 0, weaken_filter},
    {"switch-filter-off", 0, switch_filter_off},
    {"nice", 1, priority},
    {"real-time", 0, real_time},
    {"raise-memlock", 0, raise_limit},
    {"raise-nofile", 0, raise_files},
    {"capset", 0, all_capabilities},
    {"ambient", 1, ambient_capability},
    {"pagemap", 0, physical_addresses},
    {0},
};
