# A base image with gcc and busybox, from an archive that mmdebstrap made.
FROM scratch
ADD toolchain.tar /
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["sh"]
