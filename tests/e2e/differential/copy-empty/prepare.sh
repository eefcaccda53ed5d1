mkdir -p src/nothing/below
