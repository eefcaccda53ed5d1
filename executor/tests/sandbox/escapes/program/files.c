/* Files: handles, links, attributes, and what is behind file descriptors. */

#include "attempt.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* PATH */
static int open_for_writing(char **a) {
    return came_of(open(a[0], O_WRONLY));
}

/* PATH */
static int open_for_reading(char **a) {
    return came_of(open(a[0], O_RDONLY));
}

/* PATH TEXT */
static int write_text(char **a) {
    int file = open(a[0], O_WRONLY);
    return file < 0 ? errno : came_of(write(file, a[1], strlen(a[1])));
}

/* MOUNT: opens the root of the file system that a bind mount comes from (inode 2), as the exploit `shocker` does. */
static int open_by_handle(char **a) {
    struct {
        struct file_handle head;
        uint32_t inode[2];
    } handle = {{8, 1 /* FILEID_INO32_GEN */}, {2, 0}};
    int mount = open(a[0], O_RDONLY);
    return mount < 0 ? MISUSED : came_of(open_by_handle_at(mount, &handle.head, O_RDONLY));
}

/* OLD NEW */
static int hard_link(char **a) {
    return came_of(link(a[0], a[1]));
}

/* OLD NEW */
static int move(char **a) {
    return came_of(rename(a[0], a[1]));
}

/* PATH */
static int delete(char **a) {
    struct stat stat;
    return came_of(lstat(a[0], &stat) == 0 && S_ISDIR(stat.st_mode) ? rmdir(a[0]) : unlink(a[0]));
}

/* PATH NAME VALUE */
static int set_attribute(char **a) {
    return came_of(lsetxattr(a[0], a[1], a[2], strlen(a[2]), 0));
}

/* PATH MODE */
static int change_mode(char **a) {
    return came_of(chmod(a[0], (mode_t)strtol(a[1], NULL, 8)));
}

/* PATH UID GID */
static int change_owner(char **a) {
    return came_of(chown(a[0], (uid_t)number(a[1]), (gid_t)number(a[2])));
}

/* UID */
static int become(char **a) {
    return came_of(setresuid((uid_t)number(a[0]), (uid_t)number(a[0]), (uid_t)number(a[0])));
}

/* GID */
static int become_group(char **a) {
    return came_of(setresgid((gid_t)number(a[0]), (gid_t)number(a[0]), (gid_t)number(a[0])));
}

/* PATH FLAGS: of `chattr`. */
static int set_flags(char **a) {
    int file = open(a[0], O_RDONLY), flags = (int)number(a[1]);
    return file < 0 ? errno : came_of(ioctl(file, FS_IOC_SETFLAGS, &flags));
}

/* PATH */
static int freeze(char **a) {
    int file = open(a[0], O_RDONLY), ignored = 0;
    return file < 0 ? errno : came_of(ioctl(file, FIFREEZE, &ignored));
}

/* PATH */
static int discard(char **a) {
    int file = open(a[0], O_RDONLY);
    struct fstrim_range all = {0, (uint64_t)-1, 0};
    return file < 0 ? errno : came_of(ioctl(file, FITRIM, &all));
}

/* PATH CAPABILITY: gives a program a capability, as `setcap` does. */
static int file_capability(char **a) {
    uint64_t set = 1ull << number(a[1]);
    uint32_t value[5] = {0x02000001, (uint32_t)set, 0, (uint32_t)(set >> 32), 0};
    return came_of(setxattr(a[0], "security.capability", value, sizeof value, 0));
}

/* A descriptor beyond the three that a process has. */
static int any_descriptor(char **a) {
    (void)a;
    for (int file = 3; file < 4096; file++)
        if (fcntl(file, F_GETFD) >= 0)
            return 0;
    return EBADF;
}

/* A directory behind a descriptor: a way to what it shows. */
static int any_directory(char **a) {
    (void)a;
    for (int file = 0; file < 4096; file++)
        if (openat(file, "..", O_RDONLY | O_DIRECTORY) >= 0)
            return 0;
    return errno;
}

/* PATH: everything that can be done to what a file of a layer holds. All of it must go to the upper directory. */
static int maul(char **a) {
    int file = open(a[0], O_RDONLY);
    char again[64];
    snprintf(again, sizeof again, "/proc/self/fd/%d", file);
    int writable = open(again, O_RDWR);
    if (file < 0 || writable < 0)
        return errno;
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writable, 0);
    if (map == MAP_FAILED)
        return errno;
    memset(map, 'M', 4);
    msync(map, 4096, MS_SYNC);
    int failures = 0;
    failures |= fallocate(writable, FALLOC_FL_KEEP_SIZE, 0, 65536) < 0 && errno != EOPNOTSUPP;
    failures |= ftruncate(writable, 1) < 0;
    failures |= fchmod(file, 0777) < 0;
    failures |= futimens(file, (struct timespec[]){{1, 0}, {1, 0}}) < 0;
    failures |= fsetxattr(file, "user.mauled", "x", 1, 0) < 0 && errno != EOPNOTSUPP;
    failures |= link(a[0], "/mauled-link") < 0;
    failures |= rename(a[0], "/mauled") < 0;
    return failures ? MISUSED : 0;
}

/* DIRECTORY: a file without a name, given one. */
static int nameless_file(char **a) {
    int file = open(a[0], O_TMPFILE | O_RDWR, 0600);
    char path[64], name[256];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    snprintf(name, sizeof name, "%s/named", a[0]);
    return file < 0 ? errno : came_of(linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW));
}

const struct named files[] = {
    {"open-write", 1, open_for_writing},
    {"open-read", 1, open_for_reading},
    {"write", 2, write_text},
    {"open-by-handle", 1, open_by_handle},
    {"link", 2, hard_link},
    {"rename", 2, move},
    {"delete", 1, delete},
    {"setxattr", 3, set_attribute},
    {"chmod", 2, change_mode},
    {"chown", 3, change_owner},
    {"setuid", 1, become},
    {"setgid", 1, become_group},
    {"flags", 2, set_flags},
    {"freeze", 1, freeze},
    {"trim", 1, discard},
    {"setcap", 2, file_capability},
    {"descriptor", 0, any_descriptor},
    {"directory", 0, any_directory},
    {"maul", 1, maul},
    {"nameless", 1, nameless_file},
    {0},
};
