/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <cmdline_socket.h>

#include "commands.h"
#include "daemon.h"

#define LINE_BYTES_MAX 512 /* as librte_cmdline's own lines */

static struct cmdline *cl;
static struct termios before;
static atomic_bool changed; /* the terminal's settings are not those of `before` */

/* What came of a line that has not ended yet; standard input is no terminal. */
static char line[LINE_BYTES_MAX];
static size_t line_bytes;
static bool line_too_long;

int
vdpad_prompt_open(bool client)
{
	cmdline_parse_ctx_t *commands = vdpad_commands(client);

	if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0) {
		atomic_store(&changed, true);
		cl = cmdline_stdin_new(commands, "vdpa> ");
	} else {
		cl = cmdline_new(commands, "", -1, STDOUT_FILENO);
	}
	return cl != NULL ? 0 : -ENOMEM;
}

static void
obey(void)
{
	int rc = cmdline_parse(cl, line);

	if (rc == CMDLINE_PARSE_NOMATCH)
		cmdline_printf(cl, "error: no such command; try `help`\n");
	else if (rc < 0)
		cmdline_printf(cl, "error: bad arguments; try `help`\n");
}

static void
take(char byte)
{
	if (line_bytes < sizeof(line) - 1)
		line[line_bytes++] = byte;
	else
		line_too_long = true;
	if (byte != '\n')
		return;
	line[line_bytes] = '\0';
	if (line_too_long)
		cmdline_printf(cl, "error: a line has at most %d bytes\n", LINE_BYTES_MAX - 2);
	else
		obey();
	line_bytes = 0;
	line_too_long = false;
}

bool
vdpad_prompt_read(void)
{
	char bytes[LINE_BYTES_MAX];
	ssize_t nr = read(STDIN_FILENO, bytes, sizeof(bytes)), i;

	if (nr < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (nr <= 0)
		return false;
	if (atomic_load(&changed))
		return cmdline_in(cl, bytes, nr) >= 0;
	for (i = 0; i < nr && !vdpad_stopping(); i++)
		take(bytes[i]);
	return true;
}

void
vdpad_prompt_close(void)
{
	if (cl == NULL)
		return;
	if (atomic_load(&changed)) {
		cmdline_stdin_exit(cl);
		atomic_store(&changed, false);
		if (write(STDOUT_FILENO, "\n", 1) < 0)
			errno = 0;
	} else {
		cmdline_free(cl);
	}
	cl = NULL;
}

void
vdpad_prompt_restore(void)
{
	if (atomic_load(&changed))
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
}
