tar --sort=name --owner=3 --group=4 -czf packed.tar.gz src
