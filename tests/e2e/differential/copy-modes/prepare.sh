chmod 4755 src/a.txt
chmod 2751 src/b.txt
chmod 1777 src/sub
chmod 0500 src/sub/deep
