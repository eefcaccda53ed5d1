/* Reads a file in the way that is asked for, and writes what it read to standard output. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int copy(int file) {
    char text[256];
    int length = read(file, text, sizeof text);
    return length < 0 || write(1, text, length) != length;
}

int main(int count, char **arguments) {
    if (count < 3) return 2;
    const char *way = arguments[1], *path = arguments[2];
    if (!strcmp(way, "at")) {
        /* By the name in a directory that was opened only as a place, after the directory moved on. */
        int directory = open(path, O_PATH | O_DIRECTORY);
        return copy(openat(directory, arguments[3], O_RDONLY));
    }
    if (!strcmp(way, "inherited")) {
        /* A child reads what its parent has opened. */
        int file = open(path, O_RDONLY), status;
        if (fork() == 0) _exit(copy(file));
        return wait(&status) < 0 || status;
    }
    if (!strcmp(way, "again")) {
        /* By the link in /proc of a file that was opened without reading. */
        char link[64];
        sprintf(link, "/proc/self/fd/%d", open(path, O_PATH));
        return copy(open(link, O_RDONLY));
    }
    int file = open(path, O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status)) return 3;
    if (!strcmp(way, "map")) {
        char *text = mmap(0, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        close(file);
        return text == MAP_FAILED || write(1, text, status.st_size) != status.st_size;
    }
    if (!strcmp(way, "send")) return sendfile(1, file, 0, status.st_size) != status.st_size;
    if (!strcmp(way, "size")) return printf("%ld\n", (long)lseek(file, 0, SEEK_END)) < 0;
    if (!strcmp(way, "holes")) return printf("%ld\n", (long)lseek(file, 0, SEEK_HOLE)) < 0;
    if (!strcmp(way, "range")) {
        int out = open("/srv/copy", O_CREAT | O_RDWR, 0644);
        /* Between file systems it cannot be done. */
        ssize_t length = copy_file_range(file, 0, out, 0, status.st_size, 0);
        return length < 0 && errno == EXDEV ? copy(file) : length != status.st_size;
    }
    if (!strcmp(way, "user")) return printf("%d\n", (int)geteuid()) < 0 || fflush(stdout) || copy(file);
    return 2;
}
