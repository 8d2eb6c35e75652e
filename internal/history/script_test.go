package history

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// A script is a history that can be read: who, what, and the particulars. Each line is a moment later.
//
//	push.1  ready 1            life 1 of push is there, with incarnation 1
//	push.1  send 0 a           n, body
//	push.1  sent 0 1           n, seq
//	pull.1  deliver 1 a again  seq, body, flagged
//	pull.1  done 1             seq
//	push.1  settled 1 done pull
//	push.1  summary accepted=1 done=1
//	push.1  exit 0             or: killed, cut
//
// The life before the dot is its role up to a hyphen and its store; "~" before the name makes it ephemeral. The node's
// id is the name. Messages are of queue q of node push, unless "stream=..." says otherwise; "at=..." is another file.
type script struct {
	t     *testing.T
	now   int
	run   Run
	index map[string]int
	logs  map[string]*strings.Builder
}

// play makes a run of a text; lines that begin with # are comments. "drained" and "replayed" alone
// on a line claim just that.
func play(t *testing.T, text string) (fstest.MapFS, Run) {
	t.Helper()
	s := script{t: t, index: map[string]int{}, logs: map[string]*strings.Builder{}}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0][0] == '#':
		case words[0] == "drained":
			s.run.Drained = true
		case words[0] == "replayed":
			s.run.Replayed = true
		case words[0] == "within":
			s.run.Within, s.run.Healed = int64(number(t, words[1])), int64(s.now)
		default:
			s.now++
			s.line(words[0], words[1], words[2:])
		}
	}
	files := fstest.MapFS{}
	for name, log := range s.logs {
		files[name] = &fstest.MapFile{Data: []byte(log.String())}
	}
	return files, s.run
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// life finds or begins a life.
func (s *script) life(who string) *Life {
	i, ok := s.index[who]
	if !ok {
		name, _, _ := strings.Cut(strings.TrimPrefix(who, "~"), ".")
		role, _, _ := strings.Cut(name, "-")
		l := Life{Role: role, Store: name, Log: who, End: End{How: Exited}}
		if who[0] == '~' {
			l.Store = ""
		}
		i = len(s.run.Lives)
		s.index[who] = i
		s.run.Lives = append(s.run.Lives, l)
		s.logs[who] = &strings.Builder{}
	}
	return &s.run.Lives[i]
}

func (s *script) line(who, what string, args []string) {
	l := s.life(who)
	name, _, _ := strings.Cut(strings.TrimPrefix(who, "~"), ".")
	stream, level, reason, by := "push.store.default.push.q", "durable", "expired", ""
	var rest []string
	for _, a := range args {
		switch key, value, _ := strings.Cut(a, "="); key {
		case "stream":
			stream = value
		case "level":
			level = value
		case "reason":
			reason = value
		case "by":
			by = value
		default:
			rest = append(rest, a)
		}
	}
	arg := func(i int) string {
		if i < len(rest) {
			return rest[i]
		}
		return ""
	}
	emit := func(format string, args ...any) {
		fmt.Fprintf(s.logs[who], `{"v":1,"t":%d,"event":"%s",`+format+"}\n", append([]any{s.now, what}, args...)...)
	}
	of := fmt.Sprintf(`"stream":"%s"`, stream)
	switch what {
	case "ready":
		emit(`"id":"%s","name":"x","addr":"127.0.0.1:1","incarnation":%s`, name, arg(0))
	case "send":
		l.Level = level
		emit(`"n":%s,"hash":"%s","size":1`, arg(0), hashOf(arg(1)))
	case "sent":
		emit(`"n":%s,%s,"seq":%s,"level":"%s"`, arg(0), of, arg(1), level)
	case "unknown", "refused":
		emit(`"n":%s,"code":"spool_full"`, arg(0))
	case "settled":
		emit(`"n":0,%s,"seq":%s,"state":"%s","by":"%s","sub":"%s"`, of, arg(0), arg(1), arg(2), by)
	case "deliver":
		emit(`"from":"push",%s,"seq":%s,"attempt":1,"redelivered":%t,"hash":"%s","size":1`, of, arg(0), arg(2) == "again", hashOf(arg(1)))
	case "done", "nack":
		emit(`%s,"seq":%s`, of, arg(0))
	case "mismatch":
		emit(`%s,"seq":%s,"hash":"%s","size":1`, of, arg(0), hashOf("x"))
	case "gap", "loss":
		emit(`%s,"from":%s,"to":%s,"reason":"%s"`, of, arg(0), arg(1), reason)
	case "reply":
		emit(`"n":%s,"outcome":"%s","by":"rep"`, arg(0), arg(1))
	case "executes": // into an exec log: body, requester, seq
		const file = "executions"
		if s.logs[file] == nil {
			s.logs[file] = &strings.Builder{}
			s.run.ExecLogs = []string{file}
		}
		fmt.Fprintf(s.logs[file], "%d %s %s %s\n", s.now, hashOf(arg(0)), arg(1), arg(2))
	case "summary":
		emit(`"ledger":%s`, ledgerOf(rest))
	case "exit":
		l.End = End{Exited, int(number(s.t, arg(0)))}
	case "killed":
		l.End = End{How: Killed}
	case "cut":
		l.End = End{How: PowerCut}
	case "some":
		l.Some = true
	case "subscription":
		l.Sub = arg(0)
	default:
		s.t.Fatalf("%q is no event", what)
	}
}

// hashOf is a hash that shows its body; bodies are short.
func hashOf(body string) string {
	return hex.EncodeToString(append([]byte(body), make([]byte, 8)...)[:8])
}

// ledgerOf writes "done=1" as JSON; what is dropped goes under a reason.
func ledgerOf(counts []string) string {
	var b strings.Builder
	dropped := "0"
	for _, c := range counts {
		key, n, _ := strings.Cut(c, "=")
		if key == "dropped" {
			dropped = n
			continue
		}
		fmt.Fprintf(&b, `"%s":%s,`, key, n)
	}
	return "{" + b.String() + `"dropped":{"retention":` + dropped + "}}"
}
