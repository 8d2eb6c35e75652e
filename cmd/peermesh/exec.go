package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"peermesh/socket"

	"github.com/spf13/cobra"
)

// execFlags say what to run for each message.
type execFlags struct {
	command string
	shell   bool
	log     string
}

func (e *execFlags) register(cmd *cobra.Command, what string) {
	f := cmd.Flags()
	f.StringVar(&e.command, "exec", "", what)
	f.BoolVar(&e.shell, "shell", false, "let a shell read the command of --exec")
	f.StringVar(&e.log, "exec-log", "", "append a line with time, hash, sender and seq to `file` before each execution")
}

// program is a command that is run once for each message.
type program struct {
	argv   []string
	stderr io.Writer
}

// open returns the program, or nil without --exec.
func (e *execFlags) open(cmd *cobra.Command, stderr io.Writer) (*program, error) {
	if !cmd.Flags().Changed("exec") {
		if e.shell {
			return nil, usagef("--shell is for --exec; give that too")
		}
		return nil, nil
	}
	argv := shell(e.command)
	if !e.shell {
		var err error
		if argv, err = words(e.command); err != nil {
			return nil, usagef("--exec %q: %w", e.command, err)
		}
	}
	if len(argv) == 0 {
		return nil, usagef("--exec is empty; give a command")
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		return nil, usagef("--exec: %w", err)
	}
	return &program{argv, stderr}, nil
}

// words splits a command into its arguments at spaces. Single and double quotes keep
// spaces, a backslash takes the next character as it is (but not in single quotes);
// nothing is expanded.
func words(s string) (argv []string, err error) {
	var word strings.Builder
	var quote rune
	begun, escaped := false, false
	for _, r := range s {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			begun, escaped = true, true
		case r == quote && quote != 0:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			begun, quote = true, r
		case r == ' ' || r == '\t' || r == '\n':
			if begun {
				argv = append(argv, word.String())
			}
			begun = false
			word.Reset()
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quote is not closed; end it with the same one")
	}
	if begun {
		argv = append(argv, word.String())
	}
	return argv, nil
}

// lingering bounds the wait for children of a program that has ended and left them
// its pipes.
const lingering = time.Second

// run runs the program with body on its stdin and stdout into out. The end of ctx
// kills it. The error ends with the last line it wrote to stderr.
func (p *program) run(ctx context.Context, body []byte, out io.Writer) error {
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	var last tail
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(body), out, io.MultiWriter(p.stderr, &last)
	cmd.WaitDelay = lingering
	ownGroup(cmd)
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if line := last.line(); line != "" {
		return fmt.Errorf("%w: %s", err, line)
	}
	return err
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

const maxTail = 512

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(len(p)-maxTail, 0):]...)
	t.kept = t.kept[max(len(t.kept)-maxTail, 0):]
	return len(p), nil
}

// line is the last line that is not empty.
func (t *tail) line() string {
	s := strings.TrimRight(string(t.kept), "\r\n")
	return oneLine(s[strings.LastIndexByte(s, '\n')+1:])
}

// bounded keeps what is written to it, up to a limit.
type bounded struct {
	buf   bytes.Buffer
	limit int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > b.limit {
		return 0, fmt.Errorf("%w: an answer of more than %d bytes", socket.ErrTooLarge, b.limit)
	}
	return b.buf.Write(p)
}

// execLog notes each execution before it begins. A nil *execLog notes nothing. Safe
// for concurrent use.
type execLog struct {
	mu sync.Mutex
	f  *os.File
}

func (e *execFlags) openLog() (*execLog, error) {
	if e.log == "" {
		return nil, nil
	}
	f, err := os.OpenFile(e.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, usagef("--exec-log: %w", err)
	}
	return &execLog{f: f}, nil
}

// note appends a message's line in one write.
func (l *execLog) note(m *socket.Message) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	line := fmt.Appendf(nil, "%d %s %s %d\n", monotonic(), hashOf(m.Body), m.From(), m.Seq())
	if _, err := l.f.Write(line); err != nil {
		return fmt.Errorf("--exec-log: %w", err)
	}
	return nil
}

func (l *execLog) close() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}
