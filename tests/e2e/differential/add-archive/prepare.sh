tar --sort=name --owner=3 --group=4 -cf plain.tar src
tar --sort=name --owner=0 --group=0 -czf packed.tar.gz src/sub
tar --sort=name --owner=0 --group=0 -cjf packed.tar.bz2 src/a.txt
tar --sort=name --owner=0 --group=0 -cJf packed.tar.xz src/b.txt
