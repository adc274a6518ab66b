/* Executes the program FORM in FOLDER by the function FORM, with arguments and an environment of its own. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int wait_for(pid_t pid)
{
	int status;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 98;
	const char *form = argv[1], *folder = argv[2];
	char path[4096], *args[] = { (char *)form, "one", "two", NULL }, *env[] = { "MARK=here", NULL };
	pid_t pid;
	snprintf(path, sizeof(path), "%s/%s", folder, form);
	setenv("PATH", folder, 1);
	setenv("MARK", "here", 1);
	if (!strcmp(form, "execve"))
		execve(path, args, env);
	if (!strcmp(form, "execv"))
		execv(path, args);
	if (!strcmp(form, "execvp"))
		execvp(form, args);
	if (!strcmp(form, "execvpe"))
		execvpe(form, args, env);
	if (!strcmp(form, "execl"))
		execl(path, form, "one", "two", NULL);
	if (!strcmp(form, "execlp"))
		execlp(form, form, "one", "two", NULL);
	if (!strcmp(form, "execle"))
		execle(path, form, "one", "two", NULL, env);
	if (!strcmp(form, "fexecve"))
		fexecve(open(path, O_RDONLY), args, env);
	if (!strcmp(form, "execveat"))
		execveat(open(folder, O_PATH), form, args, env, 0);
	if (!strcmp(form, "posix_spawn") && posix_spawn(&pid, path, NULL, NULL, args, env) == 0)
		return wait_for(pid);
	if (!strcmp(form, "posix_spawnp") && posix_spawnp(&pid, form, NULL, NULL, args, env) == 0)
		return wait_for(pid);
	if (!strcmp(form, "vfork")) {
		pid = vfork();
		if (pid == 0) {
			execve(path, args, env);
			_exit(97);
		}
		return wait_for(pid);
	}
	return 96;
}
