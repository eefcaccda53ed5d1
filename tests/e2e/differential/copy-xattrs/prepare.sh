setfattr -n user.note -v "of a file" src/a.txt
setfattr -n user.note -v "of a directory" src/sub
