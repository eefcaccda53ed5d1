mkdir -p in/sub directory && echo file > in/file && chmod 640 in/file && chmod 2755 in/sub
echo deep > in/sub/deep && ln in/file in/hard && ln -s sub/deep in/link && ln -s /absolute in/absolute
tar --sort=name --mtime=@0 --owner=3 --group=4 -C in -cf archive.tar .
tar --sort=name --mtime=@0 -C in -czf no-extension file sub
cp archive.tar directory/inner.tar
rm -r in
