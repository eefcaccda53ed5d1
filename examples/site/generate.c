/* Turns text files into web pages: `generate TITLE DIRECTORY FILE...`. The first line of a file is its heading,
   empty lines part paragraphs. Every page links to all others; index.html to all. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what) {
    fprintf(stderr, "generate: %s: %s\n", what, strerror(errno));
    exit(1);
}

static FILE *open_or_fail(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (file == NULL) fail(path);
    return file;
}

/* `pages/about.txt` is called `about`. */
static void name_of(const char *path, char *name, size_t size) {
    const char *slash = strrchr(path, '/');
    snprintf(name, size, "%s", slash ? slash + 1 : path);
    char *dot = strrchr(name, '.');
    if (dot) *dot = '\0';
}

static void escape(const char *text, FILE *out) {
    for (; *text && *text != '\n'; text++) {
        switch (*text) {
            case '&': fputs("&amp;", out); break;
            case '<': fputs("&lt;", out); break;
            case '>': fputs("&gt;", out); break;
            default: fputc(*text, out);
        }
    }
}

static FILE *begin(const char *directory, const char *name, const char *title) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.html", directory, name);
    FILE *out = open_or_fail(path, "w");
    fputs("<!doctype html>\n<meta charset=\"utf-8\">\n<link rel=\"stylesheet\" href=\"style.css\">\n<title>", out);
    escape(title, out);
    fputs("</title>\n", out);
    return out;
}

static void links(FILE *out, char **files) {
    char name[256];
    fputs("<nav>\n<a href=\"index.html\">index</a>\n", out);
    for (; *files; files++) {
        name_of(*files, name, sizeof name);
        fprintf(out, "<a href=\"%s.html\">%s</a>\n", name, name);
    }
    fputs("</nav>\n", out);
}

static void page(const char *directory, const char *path, const char *title, char **files) {
    char name[256], line[4096];
    int heading = 1, open = 0;
    name_of(path, name, sizeof name);
    FILE *in = open_or_fail(path, "r");
    FILE *out = begin(directory, name, title);
    links(out, files);
    while (fgets(line, sizeof line, in)) {
        if (heading) {
            fputs("<h1>", out), escape(line, out), fputs("</h1>\n", out);
            heading = 0;
        } else if (line[0] == '\n') {
            if (open) fputs("</p>\n", out);
            open = 0;
        } else {
            if (!open) fputs("<p>\n", out);
            escape(line, out), fputc('\n', out);
            open = 1;
        }
    }
    if (open) fputs("</p>\n", out);
    fclose(in);
    if (fclose(out) != 0) fail(path);
}

int main(int count, char **arguments) {
    if (count < 4) {
        fputs("usage: generate TITLE DIRECTORY FILE...\n", stderr);
        return 2;
    }
    const char *title = arguments[1], *directory = arguments[2];
    char **files = arguments + 3;
    FILE *index = begin(directory, "index", title);
    fputs("<h1>", index), escape(title, index), fputs("</h1>\n", index);
    links(index, files);
    if (fclose(index) != 0) fail("index.html");
    for (char **file = files; *file; file++) page(directory, *file, title, files);
    printf("%d pages\n", count - 2);
    return 0;
}
