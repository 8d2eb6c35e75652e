package history

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// world plays a sender and one or two pullers that are killed now and then, and writes the script of it. It does
// nothing that is not promised.
type world struct {
	t        *rapid.T
	lines    []string
	push     int // life
	pulls    []int
	next     uint64 // seq
	n        int    // of the next send
	accepted int    // in this life
	settled  int    // and printed in this life
	messages map[uint64]*owed
}

// owed is what the world knows of one message.
type owed struct {
	body       string
	dispatched bool
	holder     int // a puller, -1: nobody
	answeredBy int // a puller, -1: nobody
	settled    bool
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, push: 1, next: 1, messages: map[uint64]*owed{}, pulls: make([]int, rapid.IntRange(1, 2).Draw(t, "pullers"))}
	w.say("push.1 ready 1")
	for p := range w.pulls {
		w.pulls[p] = 1
		w.say("%s ready 1", w.puller(p))
	}
	return w
}

func (w *world) say(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

func (w *world) puller(p int) string { return fmt.Sprintf("pull-%c.%d", 'a'+p, w.pulls[p]) }

// seqs are the messages for which ok holds, ascending.
func (w *world) seqs(ok func(*owed) bool) []uint64 {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.messages)), func(seq uint64) bool { return !ok(w.messages[seq]) })
}

func (w *world) store(body string) {
	w.messages[w.next] = &owed{body: body, holder: -1, answeredBy: -1}
	w.next++
}

func (w *world) send() {
	body := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.t, "body") + strconv.FormatUint(w.next, 10)
	w.say("push.%d send %d %s", w.push, w.n, body)
	w.say("push.%d sent %d %d", w.push, w.n, w.next)
	w.n++
	w.accepted++
	w.store(body)
}

// deliver gives the first message that is free to a puller, or one that was in the hands of somebody who is gone.
func (w *world) deliver() {
	free := w.seqs(func(m *owed) bool { return m.holder < 0 && m.answeredBy < 0 })
	if len(free) == 0 {
		return
	}
	fresh := slices.IndexFunc(free, func(seq uint64) bool { return !w.messages[seq].dispatched })
	candidates := free
	if fresh >= 0 {
		candidates = free[:fresh+1]
	}
	seq := rapid.SampledFrom(candidates).Draw(w.t, "seq")
	m, p := w.messages[seq], rapid.IntRange(0, len(w.pulls)-1).Draw(w.t, "puller")
	flag := ""
	if m.dispatched {
		flag = "again"
	}
	w.say("%s deliver %d %s %s", w.puller(p), seq, m.body, flag)
	m.dispatched, m.holder = true, p
}

func (w *world) answer() {
	held := w.seqs(func(m *owed) bool { return m.holder >= 0 })
	if len(held) == 0 {
		return
	}
	seq := rapid.SampledFrom(held).Draw(w.t, "seq")
	m := w.messages[seq]
	w.say("%s done %d", w.puller(m.holder), seq)
	m.holder, m.answeredBy = -1, m.holder
}

func (w *world) settle() {
	answered := w.seqs(func(m *owed) bool { return m.answeredBy >= 0 && !m.settled })
	if len(answered) == 0 {
		return
	}
	seq := rapid.SampledFrom(answered).Draw(w.t, "seq")
	w.say("push.%d settled %d done pull-%c", w.push, seq, 'a'+w.messages[seq].answeredBy)
	w.messages[seq].settled = true
	w.settled++
}

// killPush kills the sender within a Send that may have been stored, and with fates that it has stored and not printed.
func (w *world) killPush() {
	if rapid.Bool().Draw(w.t, "in a send") {
		body := "u" + strconv.FormatUint(w.next, 10)
		w.say("push.%d send %d %s", w.push, w.n, body)
		if rapid.Bool().Draw(w.t, "stored") {
			w.store(body)
		}
	}
	for _, seq := range w.seqs(func(m *owed) bool { return m.answeredBy >= 0 && !m.settled }) {
		w.messages[seq].settled = rapid.Bool().Draw(w.t, "unprinted")
	}
	w.say("push.%d %s", w.push, rapid.SampledFrom([]string{"killed", "cut"}).Draw(w.t, "how"))
	w.push++
	w.n, w.accepted, w.settled = 0, 0, 0
	w.say("push.%d ready %d", w.push, w.push)
}

func (w *world) killPull() {
	p := rapid.IntRange(0, len(w.pulls)-1).Draw(w.t, "puller")
	for _, m := range w.messages {
		if m.holder == p {
			m.holder = -1
		}
	}
	w.say("%s killed", w.puller(p))
	w.pulls[p]++
	w.say("%s ready %d", w.puller(p), w.pulls[p])
}

// live does what comes, and drains in the end.
func (w *world) live() {
	steps := []func(){w.send, w.send, w.deliver, w.deliver, w.answer, w.answer, w.settle, w.killPush, w.killPull}
	for range rapid.IntRange(10, 80).Draw(w.t, "steps") {
		steps[rapid.IntRange(0, len(steps)-1).Draw(w.t, "step")]()
	}
	for range 3 { // so that every plant finds something
		w.send()
	}
	for len(w.seqs(func(m *owed) bool { return !m.settled })) > 0 {
		w.deliver()
		w.answer()
		w.settle()
	}
	w.say("push.%d summary carried=%d accepted=%d done=%d", w.push, w.settled-w.accepted, w.accepted, w.settled)
	w.say("push.%d exit 0", w.push)
	w.say("drained")
}

// A plant makes a good script bad, or returns nil where it cannot.
type plant func(t *rapid.T, lines []string) []string

var plants = map[string]plant{
	"I1": func(t *rapid.T, lines []string) []string {
		return insertAfter(t, lines, lastPush(lines), " ready ", "send 900 lost", "sent 900 900")
	},
	"I2": func(t *rapid.T, lines []string) []string {
		return insertAfter(t, lines, "pull", " ready ", "deliver 901 phantom")
	},
	"I3": func(t *rapid.T, lines []string) []string {
		i := pick(t, lines, "pull", " deliver ")
		again := strings.TrimSuffix(strings.TrimSuffix(lines[i], "again"), " ")
		j := pick(t, lines[i:], strings.Fields(lines[i])[0], "")
		return slices.Insert(lines, i+j+1, again, again)
	},
	"I5": func(t *rapid.T, lines []string) []string {
		if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "pull-b") }) {
			return nil
		}
		var first []int
		for i, l := range lines {
			if strings.Contains(l, " deliver ") && !strings.HasSuffix(l, "again") {
				first = append(first, i)
			}
		}
		k := rapid.IntRange(0, len(first)-2).Draw(t, "line")
		a, b := strings.Fields(lines[first[k]]), strings.Fields(lines[first[k+1]])
		lines[first[k]] = strings.Join(append(a[:1:1], b[1:]...), " ")
		lines[first[k+1]] = strings.Join(append(b[:1:1], a[1:]...), " ")
		return lines
	},
	"I6": func(t *rapid.T, lines []string) []string {
		seq := strings.Fields(lines[pick(t, lines, "push", " sent ")])[3]
		return insertAfter(t, lines, lastPush(lines), " ready ", "send 900 other", "sent 900 "+seq)
	},
	"I7": func(t *rapid.T, lines []string) []string {
		settled := lines[pick(t, lines, "push", " settled ")]
		_, fate, _ := strings.Cut(settled, " ")
		return insertAfter(t, lines, lastPush(lines), " ready ", fate)
	},
	"I8": func(t *rapid.T, lines []string) []string {
		i := pick(t, lines, "push", " settled ")
		lines[i] = lines[i][:strings.LastIndexByte(lines[i], ' ')] + " somebody"
		return lines
	},
	"I10": func(t *rapid.T, lines []string) []string {
		i := pick(t, lines, "", " ready ")
		if strings.HasSuffix(lines[i], " 1") {
			return nil
		}
		lines[i] = lines[i][:strings.LastIndexByte(lines[i], ' ')] + " 1"
		return lines
	},
	"I12": func(t *rapid.T, lines []string) []string {
		seq := strings.Fields(lines[pick(t, lines, "pull", " deliver ")])[2]
		return insertAfter(t, lines, "pull", " ready ", "gap "+seq+" "+seq, "deliver "+seq+" x again")
	},
	"I13": func(t *rapid.T, lines []string) []string {
		i := pick(t, lines, "push", " summary ")
		lines[i] = strings.Replace(lines[i], "done=", "done=1", 1)
		return lines
	},
	"I16": func(t *rapid.T, lines []string) []string {
		i := pick(t, lines, "push", " exit ")
		lines[i] = strings.Replace(lines[i], "exit 0", rapid.SampledFrom([]string{"exit 3", "killed"}).Draw(t, "end"), 1)
		return lines
	},
	"I18": func(t *rapid.T, lines []string) []string {
		i := pick(t, lines, "pull", " deliver ")
		f := strings.Fields(lines[i])
		seq, _ := strconv.Atoi(f[2])
		if seq == 1 || len(f) == 5 {
			return nil
		}
		return slices.Insert(lines, i+1, fmt.Sprintf("%s gap 1 %d reason=incarnation", f[0], seq-1))
	},
}

// pick draws one of the lines that begin so and contain that; there is one.
func pick(t *rapid.T, lines []string, prefix, what string) int {
	var all []int
	for i, l := range lines {
		if strings.HasPrefix(l, prefix) && strings.Contains(l, what) {
			all = append(all, i)
		}
	}
	return rapid.SampledFrom(all).Draw(t, "line")
}

// insertAfter adds events of the same life behind a drawn line.
func insertAfter(t *rapid.T, lines []string, prefix, what string, events ...string) []string {
	i := pick(t, lines, prefix, what)
	life := strings.Fields(lines[i])[0]
	for k := range events {
		events[k] = life + " " + events[k]
	}
	return slices.Insert(lines, i+1, events...)
}

// lastPush is the sender's last life.
func lastPush(lines []string) (life string) {
	for _, l := range lines {
		if strings.HasPrefix(l, "push") {
			life = strings.Fields(l)[0]
		}
	}
	return life
}

func TestWhateverHappensRightlyIsNoViolation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.live()
		report, err := Check(play(t, strings.Join(w.lines, "\n")))
		if err != nil {
			rt.Fatal(err)
		}
		if bad := slices.DeleteFunc(report.Violated(), func(name string) bool { return name == "flags" }); len(bad) > 0 {
			rt.Fatalf("%s\n%s", strings.Join(w.lines, "\n"), report)
		}
	})
}

func TestWhateverIsPlantedIsFound(t *testing.T) {
	planted := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.live()
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(plants))).Draw(rt, "invariant")
		lines := plants[name](rt, slices.Clone(w.lines))
		if lines == nil {
			rt.Skip()
		}
		planted[name]++
		report, err := Check(play(t, strings.Join(lines, "\n")))
		if err != nil {
			rt.Fatal(err)
		}
		if !slices.Contains(report.Violated(), name) {
			rt.Fatalf("%s is planted and not found:\n%s\n%s", name, strings.Join(lines, "\n"), report)
		}
	})
	t.Log(planted)
}
