/* What the attempts have in common. Each returns 0 if it got through, or the number of the error that stopped it. */

#ifndef ATTEMPT_H
#define ATTEMPT_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whatever is made bears this name, so that it can be told from what others do to the machine. */
#define MARK "kiln-escape"

/* An attempt that the program does not know, or that was given too little. */
#define MISUSED 255

typedef int (*attempt)(char **arguments);

struct named {
    const char *name;
    int arguments;
    attempt make;
};

extern const struct named mounts[], kernel[], processes[], devices[], files[], neighbours[];

/* What came of a call. */
static inline int came_of(long result) {
    return result < 0 ? errno : 0;
}

static inline long number(const char *text) {
    return strtol(text, NULL, 0);
}

#endif
