// What a process hands down to those that it starts, beside files and environment.
//
//   inherit pass PROGRAM ARGUMENT...   sets all of it to something unusual, and becomes the program
//   inherit show                       prints what came down

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEY "kiln-test-key"
#define JOIN_SESSION_KEYRING 1
#define SETPERM 5
#define SEARCH 10
#define SESSION_KEYRING (-3)
#define POSSESSOR_ALL 0x3f000000

static void set_oom_score(const char *score) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY);
    // Only root may ask to be spared.
    if (file >= 0 && write(file, score, strlen(score)) < 0) perror("oom_score_adj");
    close(file);
}

static int pass(char **program) {
    syscall(SYS_keyctl, JOIN_SESSION_KEYRING, NULL);
    long key = syscall(SYS_add_key, "user", KEY, "secret", 6, SESSION_KEYRING);
    if (key < 0 || syscall(SYS_keyctl, SETPERM, key, POSSESSOR_ALL) < 0) perror("add_key");
    personality(ADDR_NO_RANDOMIZE);
    prctl(PR_SET_TIMERSLACK, 123456);
    if (getuid() == 0) set_oom_score("-500");
    umask(077);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    dup2(2, 77);
    execv(program[0], program);
    perror(program[0]);
    return 1;
}

static int show(void) {
    char score[32] = "";
    int file = open("/proc/self/oom_score_adj", O_RDONLY);
    if (file < 0 || read(file, score, sizeof score - 1) < 0) perror("oom_score_adj");
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    long key = syscall(SYS_keyctl, SEARCH, SESSION_KEYRING, "user", KEY, 0);
    printf("key %s\n", key < 0 ? "none" : "FOUND");
    printf("personality %x\n", personality(0xffffffff));
    printf("timer slack %d\n", prctl(PR_GET_TIMERSLACK));
    printf("oom score %s", score);
    printf("umask %o\n", umask(0));
    printf("blocked %d\n", sigismember(&blocked, SIGTERM));
    printf("ignored %d%d\n", signal(SIGPIPE, SIG_DFL) == SIG_IGN, signal(SIGHUP, SIG_DFL) == SIG_IGN);
    printf("descriptor %d\n", fcntl(77, F_GETFD) >= 0);
    printf("no new privileges %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    printf("dumpable %d\n", prctl(PR_GET_DUMPABLE));
    return 0;
}

int main(int count, char **arguments) {
    if (count > 2 && !strcmp(arguments[1], "pass")) return pass(arguments + 2);
    if (count == 2 && !strcmp(arguments[1], "show")) return show();
    return 2;
}
