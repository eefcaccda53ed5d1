# The smallest base image that has a shell: Debian's static busybox.
FROM scratch
COPY busybox /bin/
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY --chmod=644 passwd group /etc/
RUN mkdir -m 1777 /tmp
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["sh"]
