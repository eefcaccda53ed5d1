/* Makes one attempt to get out of a sandbox: the first argument is its name, the others are its own. The exit code is
 * 0 if it got through, the number of the error that stopped it, or 255 if it was not made at all. */

#include "attempt.h"

static const struct named *const themes[] = {mounts, kernel, processes, devices, files, neighbours};

int main(int count, char **arguments) {
    if (count < 2)
        return MISUSED;
    for (size_t theme = 0; theme < sizeof themes / sizeof *themes; theme++)
        for (const struct named *one = themes[theme]; one->name; one++)
            if (strcmp(one->name, arguments[1]) == 0)
                return count == one->arguments + 2 ? one->make(arguments + 2) : MISUSED;
    return MISUSED;
}
