/* Mounts, roots and namespaces. */

#include "attempt.h"
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Not in every C library's headers. */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsmount 432
#define SYS_fspick 433
#define SYS_clone3 435
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

/* SOURCE TARGET TYPE FLAGS DATA */
static int mounting(char **a) {
    mkdir(a[1], 0755);
    return came_of(mount(a[0], a[1], a[2], number(a[3]), a[4]));
}

/* TARGET FLAGS */
static int unmounting(char **a) {
    return came_of(umount2(a[0], number(a[1])));
}

/* TYPE */
static int new_filesystem(char **a) {
    return came_of(syscall(SYS_fsopen, a[0], 0));
}

/* PATH */
static int reconfigure(char **a) {
    return came_of(syscall(SYS_fspick, AT_FDCWD, a[0], 0));
}

/* PATH */
static int clone_mount(char **a) {
    return came_of(syscall(SYS_open_tree, AT_FDCWD, a[0], 1 /* OPEN_TREE_CLONE */));
}

/* FROM TO */
static int move_mount_to(char **a) {
    return came_of(syscall(SYS_move_mount, AT_FDCWD, a[0], AT_FDCWD, a[1], 0));
}

/* PATH */
static int make_writable(char **a) {
    uint64_t attributes[4] = {0, 1 /* MOUNT_ATTR_RDONLY */, 0, 0};
    return came_of(syscall(SYS_mount_setattr, AT_FDCWD, a[0], 0, attributes, sizeof attributes));
}

/* NEW OLD */
static int change_root(char **a) {
    mkdir(a[0], 0755);
    return came_of(syscall(SYS_pivot_root, a[0], a[1]));
}

/* PATH: what only the machine has. Keeps the old root open over a chroot and climbs from there. */
static int climb_out_of_chroot(char **a) {
    int old = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("/jail", 0755);
    if (old < 0 || chroot("/jail") < 0 || fchdir(old) < 0)
        return MISUSED;
    for (int level = 0; level < 1000; level++)
        if (chdir("..") < 0)
            return errno;
    if (chroot(".") < 0)
        return errno;
    return came_of(open(a[0], O_RDONLY));
}

/* FLAGS */
static int leave_namespaces(char **a) {
    return came_of(unshare(number(a[0])));
}

/* FLAGS */
static int clone_with_namespaces(char **a) {
    long child = syscall(SYS_clone, number(a[0]) | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return came_of(child);
}

/* FLAGS */
static int clone3_with_namespaces(char **a) {
    uint64_t arguments[8] = {(uint64_t)number(a[0]), 0, 0, 0, SIGCHLD};
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0)
        _exit(0);
    return came_of(child);
}

/* PATH */
static int enter_namespace(char **a) {
    int namespace = open(a[0], O_RDONLY);
    return namespace < 0 ? errno : came_of(setns(namespace, 0));
}

const struct named mounts[] = {
    {"mount", 5, mounting},
    {"unmount", 2, unmounting},
    {"fsopen", 1, new_filesystem},
    {"fspick", 1, reconfigure},
    {"open-tree", 1, clone_mount},
    {"move-mount", 2, move_mount_to},
    {"mount-setattr", 1, make_writable},
    {"pivot-root", 2, change_root},
    {"chroot", 1, climb_out_of_chroot},
    {"unshare", 1, leave_namespaces},
    {"clone", 1, clone_with_namespaces},
    {"clone3", 1, clone3_with_namespaces},
    {"setns", 1, enter_namespace},
    {0},
};
