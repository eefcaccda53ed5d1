/* Other processes, by numbers that they have on the machine; and what processes can do to each other's filters. */

#include "attempt.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* PID */
static int kill_it(char **a) {
    return came_of(kill((pid_t)number(a[0]), SIGKILL));
}

/* Everybody but oneself and the first process: whom a process can see. */
static int kill_everybody(char **a) {
    (void)a;
    pid_t child = fork();
    if (child == 0) {
        kill(-1, SIGKILL);
        _exit(errno);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : MISUSED;
}

/* PID */
static int queue_signal(char **a) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_code = SI_QUEUE;
    return came_of(syscall(SYS_rt_sigqueueinfo, number(a[0]), SIGKILL, &info));
}

/* PID */
static int kill_thread(char **a) {
    return came_of(syscall(SYS_tgkill, number(a[0]), number(a[0]), SIGKILL));
}

/* PID */
static int trace_it(char **a) {
    return came_of(ptrace(PTRACE_ATTACH, (pid_t)number(a[0]), 0, 0));
}

/* PID */
static int seize_it(char **a) {
    return came_of(ptrace(PTRACE_SEIZE, (pid_t)number(a[0]), 0, 0));
}

/* PID ADDRESS */
static int read_memory(char **a) {
    char text[8];
    struct iovec here = {text, sizeof text}, there = {(void *)number(a[1]), sizeof text};
    return came_of(process_vm_readv((pid_t)number(a[0]), &here, 1, &there, 1, 0));
}

/* PID ADDRESS */
static int write_memory(char **a) {
    struct iovec here = {"ESCAPED!", 8}, there = {(void *)number(a[1]), 8};
    return came_of(process_vm_writev((pid_t)number(a[0]), &here, 1, &there, 1, 0));
}

/* PID */
static int open_process(char **a) {
    return came_of(syscall(SYS_pidfd_open, number(a[0]), 0));
}

/* The first process of the sandbox is in reach, but not what it has open. */
static int take_descriptor(char **a) {
    (void)a;
    long process = syscall(SYS_pidfd_open, getpid(), 0);
    return process < 0 ? MISUSED : came_of(syscall(438 /* pidfd_getfd */, process, 0, 0));
}

/* PID */
static int limit_it(char **a) {
    struct rlimit limit = {0, 0};
    return came_of(prlimit((pid_t)number(a[0]), RLIMIT_CPU, &limit, NULL));
}

/* PID */
static int slow_it_down(char **a) {
    return came_of(setpriority(PRIO_PROCESS, (id_t)number(a[0]), 19));
}

/* PID */
static int schedule_it(char **a) {
    struct sched_param parameters = {0};
    return came_of(sched_setscheduler((pid_t)number(a[0]), SCHED_IDLE, &parameters));
}

/* PID */
static int pin_it(char **a) {
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    return came_of(sched_setaffinity((pid_t)number(a[0]), sizeof first, &first));
}

/* PID */
static int compare_with_it(char **a) {
    return came_of(syscall(SYS_kcmp, getpid(), number(a[0]), 0, 0, 0));
}

/* PID */
static int migrate_it(char **a) {
    unsigned long nodes = 1;
    return came_of(syscall(SYS_migrate_pages, number(a[0]), 64, &nodes, &nodes));
}

/* The parent of the first process is no process here, and its group and session are its own. */
static int parent(char **a) {
    (void)a;
    if (getpid() != 1)
        return MISUSED;
    return getppid() != 0 || getpgid(0) != 1 || getsid(0) != 1 ? 0 : ESRCH;
}

#ifdef __x86_64__
/* A tracer changes what the traced process asks of the kernel, after that has asked: `getpid` becomes `mount`. */
static int change_call_while_tracing(char **a) {
    (void)a;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        long result = syscall(SYS_getpid, MARK, "/tmp", "tmpfs", 0, 0);
        _exit(result < 0 ? errno : 0);
    }
    int status;
    waitpid(child, &status, 0);
    int changed = 0;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD);
    for (;;) {
        if (ptrace(PTRACE_SYSCALL, child, 0, 0) < 0 || waitpid(child, &status, 0) < 0)
            return MISUSED;
        if (WIFEXITED(status))
            return changed ? WEXITSTATUS(status) : MISUSED;
        struct user_regs_struct registers;
        ptrace(PTRACE_GETREGS, child, 0, &registers);
        if (!changed && registers.orig_rax == SYS_getpid && registers.rdi != 0) {
            registers.orig_rax = SYS_mount;
            ptrace(PTRACE_SETREGS, child, 0, &registers);
            changed = 1;
        }
    }
}
#endif

/* One's own listener says that a call may go on: `mount`. */
static int wave_call_through(char **a) {
    (void)a;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mount, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return MISUSED;
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0)
        return MISUSED;
    pid_t child = fork();
    if (child == 0)
        _exit(came_of(syscall(SYS_mount, MARK, "/tmp", "tmpfs", 0, NULL)));
    /* What forbids goes before what asks, so there should be nothing to answer. */
    struct pollfd question = {(int)listener, POLLIN, 0};
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked);
        if (poll(&question, 1, 10) == 1 && question.revents & POLLIN &&
            ioctl((int)listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) == 0) {
            struct seccomp_notif_resp answer = {asked.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE};
            ioctl((int)listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : MISUSED;
}

const struct named processes[] = {
    {"kill", 1, kill_it},
    {"kill-everybody", 0, kill_everybody},
    {"sigqueue", 1, queue_signal},
    {"tgkill", 1, kill_thread},
    {"ptrace", 1, trace_it},
    {"ptrace-seize", 1, seize_it},
    {"vm-read", 2, read_memory},
    {"vm-write", 2, write_memory},
    {"pidfd-open", 1, open_process},
    {"pidfd-getfd", 0, take_descriptor},
    {"prlimit", 1, limit_it},
    {"setpriority", 1, slow_it_down},
    {"setscheduler", 1, schedule_it},
    {"setaffinity", 1, pin_it},
    {"kcmp", 1, compare_with_it},
    {"migrate-pages", 1, migrate_it},
    {"parent", 0, parent},
#ifdef __x86_64__
    {"change-call", 0, change_call_while_tracing},
#endif
    {"wave-through", 0, wave_call_through},
    {0},
};
