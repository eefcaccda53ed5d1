/* What processes of the machine offer each other: shared memory, queues, sockets, the network. */

#include "attempt.h"
#include <arpa/inet.h>
#include <mqueue.h>
#include <net/if.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>

/* KEY */
static int shared_memory(char **a) {
    return came_of(shmget((key_t)number(a[0]), 0, 0));
}

/* ID: as the machine numbers it. */
static int attach_memory(char **a) {
    return came_of((long)shmat((int)number(a[0]), NULL, SHM_RDONLY));
}

/* KEY */
static int semaphores(char **a) {
    return came_of(semget((key_t)number(a[0]), 0, 0));
}

/* KEY */
static int messages(char **a) {
    return came_of(msgget((key_t)number(a[0]), 0));
}

/* NAME */
static int posix_queue(char **a) {
    return came_of(mq_open(a[0], O_RDONLY));
}

static int reach(int type, const struct sockaddr *address, socklen_t length) {
    int one = socket(address->sa_family, type, 0);
    return one < 0 ? errno : came_of(connect(one, address, length));
}

/* NAME */
static int abstract_socket(char **a) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path + 1, a[0], sizeof address.sun_path - 2);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a[0]));
    return reach(SOCK_STREAM, (struct sockaddr *)&address, length);
}

/* PATH */
static int socket_file(char **a) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, a[0], sizeof address.sun_path - 1);
    return reach(SOCK_STREAM, (struct sockaddr *)&address, sizeof address);
}

/* PORT */
static int loopback(char **a) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number(a[0]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return reach(SOCK_STREAM, (struct sockaddr *)&address, sizeof address);
}

/* INTERFACE FLAGS */
static int set_interface(char **a) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, a[0], IFNAMSIZ - 1);
    request.ifr_flags = (short)number(a[1]);
    return came_of(ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &request));
}

static int force_buffer(char **a) {
    (void)a;
    int size = 1 << 24;
    return came_of(setsockopt(socket(AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size));
}

const struct named neighbours[] = {
    {"shm", 1, shared_memory},
    {"shmat", 1, attach_memory},
    {"sem", 1, semaphores},
    {"msg", 1, messages},
    {"mq", 1, posix_queue},
    {"abstract-socket", 1, abstract_socket},
    {"socket-file", 1, socket_file},
    {"loopback", 1, loopback},
    {"interface", 2, set_interface},
    {"force-buffer", 0, force_buffer},
    {0},
};
