// Tries to reach others by every means that a command has.
//
//   reach tcp|udp ADDRESS PORT [DEVICE]   prints what comes back, or why nothing does; by this device, whatever the
//                                         routes say
//   reach raw ADDRESS PORT DEVICE         sends a UDP datagram as a frame of its own
//   reach unix NAME                       an abstract unix socket

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <netpacket/packet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(const char *what) {
    printf("%s: %s\n", what, strerror(errno));
    return 1;
}

static int hear(int socket) {
    char text[256];
    ssize_t length = recv(socket, text, sizeof text, 0);
    if (length < 0) return fail("recv");
    printf("%.*s\n", (int)length, text);
    return 0;
}

static int internet(const char *kind, const char *address, int port, const char *device) {
    int six = strchr(address, ':') != NULL, udp = strcmp(kind, "udp") == 0;
    int s = socket(six ? AF_INET6 : AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    // Long enough for what is near; what must not come is not waited for as long.
    struct timeval patience = {.tv_sec = device ? 0 : 60, .tv_usec = device ? 300000 : 0};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (device) {
        if (setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device))) return fail("device");
        // The kernel would choose a loopback address that no frame may come from.
        struct ifreq own;
        memset(&own, 0, sizeof own);
        strncpy(own.ifr_name, device, IFNAMSIZ - 1);
        if (!six && (ioctl(s, SIOCGIFADDR, &own) || bind(s, &own.ifr_addr, sizeof own.ifr_addr))) return fail("bind");
    }
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(six ? AF_INET6 : AF_INET, address, six ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
    if (connect(s, six ? (void *)&v6 : (void *)&v4, six ? sizeof v6 : sizeof v4)) return fail("connect");
    if (send(s, "hello", 5, 0) != 5) return fail("send");
    return hear(s);
}

static int raw(const char *address, int port, const char *device) {
    int s = socket(AF_PACKET, SOCK_DGRAM, htons(0x0800));
    if (s < 0) return fail("socket");
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(0x0800), .sll_halen = 6};
    to.sll_ifindex = if_nametoindex(device);
    memset(to.sll_addr, 0xff, 6);
    struct {
        struct iphdr ip;
        struct udphdr udp;
        char text[5];
    } __attribute__((packed)) packet;
    memset(&packet, 0, sizeof packet);
    packet.ip = (struct iphdr){.ihl = 5, .version = 4, .tot_len = htons(sizeof packet), .ttl = 64, .protocol = 17};
    struct ifreq own;
    memset(&own, 0, sizeof own);
    strncpy(own.ifr_name, device, IFNAMSIZ - 1);
    int any = socket(AF_INET, SOCK_DGRAM, 0);
    if (ioctl(any, SIOCGIFADDR, &own)) return fail("address");
    packet.ip.saddr = ((struct sockaddr_in *)&own.ifr_addr)->sin_addr.s_addr;
    inet_pton(AF_INET, address, &packet.ip.daddr);
    unsigned sum = 0;
    for (unsigned i = 0; i < 10; i++) sum += ((unsigned short *)&packet.ip)[i];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    packet.ip.check = ~sum;
    packet.udp.source = htons(4000);
    packet.udp.dest = htons(port);
    packet.udp.len = htons(sizeof packet.udp + 5);
    memcpy(packet.text, "hello", 5);
    if (sendto(s, &packet, sizeof packet, 0, (void *)&to, sizeof to) < 0) return fail("sendto");
    printf("sent\n");
    return 0;
}

static int abstract(const char *name) {
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path + 1, name, sizeof address.sun_path - 2);
    if (connect(s, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) return fail("connect");
    return hear(s);
}

int main(int count, char **arguments) {
    if (count == 3) return abstract(arguments[2]);
    if (count < 4) return 2;
    const char *device = count > 4 ? arguments[4] : NULL;
    if (strcmp(arguments[1], "raw") == 0) return raw(arguments[2], atoi(arguments[3]), device);
    return internet(arguments[1], arguments[2], atoi(arguments[3]), device);
}
