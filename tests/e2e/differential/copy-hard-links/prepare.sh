ln src/a.txt src/same
ln src/a.txt src/sub/same
