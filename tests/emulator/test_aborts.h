/* Whether a piece of a test ends its program, and what it says. */
#ifndef COP_EMULATOR_TEST_ABORTS_H
#define COP_EMULATOR_TEST_ABORTS_H

#include <signal.h>
#include <stdio.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

/* What f says before it ends by abort(), in a process of its own. Empty: it does not. */
template <typename F> std::string abort_text(F f)
{
    int ends[2];
    if (pipe(ends))
        return "";
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        signal(SIGABRT, SIG_DFL); /* the test library has its own */
        f();
        _exit(0);
    }
    close(ends[1]);
    std::string said;
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;)
        said.append(buffer, (size_t)n);
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    return aborted ? said : "";
}

/* Whether that text has `text` in it; shows what came instead. */
template <typename F> bool aborts_with(const char *text, F f)
{
    std::string said = abort_text(f);
    if (said.find(text) != std::string::npos)
        return true;
    fprintf(stderr, "expected an abort with \"%s\", got: %s\n", text, said.c_str());
    return false;
}

#endif
