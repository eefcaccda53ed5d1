/* Devices, raw and otherwise, and terminals. */

#include "attempt.h"
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>

/* PATH c|b MAJOR MINOR: makes the device and opens it. */
static int own_device(char **a) {
    mode_t kind = a[1][0] == 'b' ? S_IFBLK : S_IFCHR;
    if (mknod(a[0], kind | 0666, makedev(number(a[2]), number(a[3]))) < 0)
        return errno;
    return came_of(open(a[0], O_RDONLY | O_NONBLOCK));
}

/* PATH */
static int read_device(char **a) {
    return came_of(open(a[0], O_RDONLY | O_NONBLOCK));
}

/* PATH */
static int write_device(char **a) {
    return came_of(open(a[0], O_WRONLY | O_NONBLOCK));
}

/* Types into the terminal that the process has as standard input, output or error. */
static int type_into_terminal(char **a) {
    (void)a;
    int error = 0;
    for (int stream = 0; stream < 3; stream++) {
        if (ioctl(stream, TIOCSTI, "x") == 0)
            return 0;
        error = errno;
    }
    return error;
}

/* Pastes into a console. */
static int paste_into_console(char **a) {
    (void)a;
    int error = 0;
    for (int stream = 0; stream < 3; stream++) {
        char paste[] = {3 /* TIOCL_PASTESEL */, 0};
        if (ioctl(stream, TIOCLINUX, paste) == 0)
            return 0;
        error = errno;
    }
    return error;
}

/* PATH: makes a terminal one's own that is not. */
static int steal_terminal(char **a) {
    int terminal = open(a[0], O_RDWR | O_NOCTTY);
    return terminal < 0 ? errno : came_of(ioctl(terminal, TIOCSCTTY, 1));
}

const struct named devices[] = {
    {"device", 4, own_device},
    {"read-device", 1, read_device},
    {"write-device", 1, write_device},
    {"type", 0, type_into_terminal},
    {"paste", 0, paste_into_console},
    {"steal-terminal", 1, steal_terminal},
    {0},
};
