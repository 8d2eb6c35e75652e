package history

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// maxLine bounds a line of a log.
const maxLine = 1 << 20

// Check reads the logs that run names and judges it. An error means that the history cannot be read, which says nothing
// about it; what is wrong with it stands in the report.
func Check(logs fs.FS, run Run) (*Report, error) {
	j := newJudge(run)
	for i := range run.Lives {
		if err := j.readLife(logs, uint32(i)); err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
	}
	for _, name := range run.ExecLogs {
		if err := j.readExecutions(logs, name); err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
	}
	j.conclude()
	return &j.report, nil
}

// judge is the reading of one run.
type judge struct {
	run      Run
	lives    []living // lives[0] is nobody, so that place{} is nowhere
	streams  map[string]*stream
	last     *stream                // the one used last
	kept     map[string]string      // states and ids
	unknown  map[payload]uint64     // how many sends of a payload came back without an answer
	asked    map[payload]uint64     // how many requests of a payload have an outcome
	requests map[payload]*questions // by requester
	began    map[string]map[uint64]execution
	nodes    map[string]*nodeLives
	reader   *bufio.Reader
	report   Report
}

// payload is a body and the node that sent it.
type payload struct {
	node string
	hash uint64
}

func (p payload) compare(q payload) int {
	return cmp.Or(strings.Compare(p.node, q.node), cmp.Compare(p.hash, q.hash))
}

func newJudge(run Run) *judge {
	return &judge{run: run, lives: make([]living, 1, len(run.Lives)+1), streams: map[string]*stream{}, kept: map[string]string{},
		unknown: map[payload]uint64{}, asked: map[payload]uint64{}, requests: map[payload]*questions{}, began: map[string]map[uint64]execution{},
		reader: bufio.NewReaderSize(nil, maxLine), report: newReport()}
}

// readLife reads the log of a life.
func (j *judge) readLife(logs fs.FS, i uint32) error {
	life := j.run.Lives[i]
	j.lives = append(j.lives, living{Life: life, calls: map[uint64]call{}, settled: map[string]uint64{},
		intakes: map[*copies]*intake{}})
	l := &j.lives[i+1]
	err := j.eachLine(logs, life.Log, l.End.abrupt(), func(line []byte, number uint32) error {
		e, err := parse(line)
		if err != nil {
			return err
		}
		j.report.Events++
		return j.take(l, &e, place{i + 1, number})
	})
	for _, c := range l.calls {
		j.unknown[payload{l.id, c.hash}]++
		if l.open++; !l.firstOpen.known() || c.at.line < l.firstOpen.line {
			l.firstOpen = c.at
		}
	}
	l.calls, l.intakes, l.last = nil, nil, nil
	return err
}

// eachLine reads a file. Half a line at its end is what a process left that was stopped in the middle of it.
func (j *judge) eachLine(logs fs.FS, name string, torn bool, read func(line []byte, number uint32) error) error {
	f, err := logs.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r := j.reader
	r.Reset(f)
	for number := uint32(1); ; number++ {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && (len(line) == 0 || torn):
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%s:%d: %w", name, number, errCut)
		case err != nil:
			return fmt.Errorf("%s:%d: %w", name, number, err)
		}
		if err := read(line, number); err != nil {
			return fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
}

// take notes one event.
func (j *judge) take(l *living, e *event, at place) error {
	if e.ledger != nil {
		if err := j.takeLedger(l, e, at); err != nil {
			return err
		}
	}
	switch string(e.kind) {
	case "ready":
		l.id, l.incarnation, l.ready, l.readyAt = string(e.id), e.incarnation, e.t, at
	case "send":
		return j.takeSend(l, e, at)
	case "sent":
		return j.takeSent(l, e, at)
	case "refused":
		delete(l.calls, e.n) // it never was a message: whoever delivers it finds no send
	case "settled":
		return j.takeSettled(l, e, at)
	case "deliver":
		return j.takeDeliver(l, e, at)
	case "done":
		return j.takeDone(l, e, at)
	case "gap":
		return j.takeGap(l, e, at)
	case "loss":
		j.fault(noLoss, []place{at}, "a loss of %d to %d of %s is told", e.first, e.last, short(string(e.stream)))
	case "mismatch":
		j.fault(noPhantom, []place{at}, "message %d of %s has a body that nobody made", e.seq, short(string(e.stream)))
	case "reply":
		return j.takeReply(l, e, at)
	}
	return nil
}

// streamOf is the stream that an event names.
func (j *judge) streamOf(e *event) (*stream, error) {
	if j.last != nil && j.last.label == string(e.stream) {
		return j.last, nil
	}
	s := j.streams[string(e.stream)]
	if s == nil {
		label := string(e.stream)
		node, kind, err := splitLabel(label)
		if err != nil {
			return nil, err
		}
		s = &stream{label: label, node: node, kind: kind, groups: map[string]*copies{}, levels: map[string]bool{}}
		j.streams[label] = s
	}
	j.last = s
	return s, nil
}

func (j *judge) takeSend(l *living, e *event, at place) error {
	hash, err := e.hashed()
	if err != nil {
		return err
	}
	l.calls[e.n] = call{hash, e.t, at}
	if l.Role == "req" {
		j.question(l.id, hash).ask(l.Level, at)
	}
	return nil
}

func (j *judge) takeSent(l *living, e *event, at place) error {
	s, err := j.streamOf(e)
	if err != nil {
		return err
	}
	c, ok := l.calls[e.n]
	if !ok {
		j.fault(noPhantom, []place{at}, "%d is said to be sent, and nothing was", e.n)
		return nil
	}
	delete(l.calls, e.n)
	s.levels[string(e.level)] = true
	handed := string(e.level) == "best-effort"
	if !handed {
		l.sent++
	}
	m := s.messages.at(e.seq)
	j.count(onePayload)
	if m.sent.known() {
		j.fault(onePayload, []place{m.sent, at}, "place %d of %s is given to two messages", e.seq, short(s.label))
		return nil
	}
	m.sentHash, m.begun, m.sent = c.hash, c.t, at
	m.durable, m.handed = string(e.level) == "durable", handed
	return nil
}

func (j *judge) takeSettled(l *living, e *event, at place) error {
	s, err := j.streamOf(e)
	if err != nil {
		return err
	}
	state := j.keep(e.state)
	l.settled[state]++
	r := s.group(string(e.sub)).receipts.at(e.seq)
	j.count(settledStays)
	if r.settled.known() {
		j.fault(settledStays, []place{r.settled, at}, "message %d of %s has two fates, %s and %s", e.seq, short(s.label), r.state, state)
		return nil
	}
	r.state, r.by, r.settled, r.settledAt = state, j.keep(e.by), at, e.t
	return nil
}

// keep returns b as a string, one copy for all that are equal.
func (j *judge) keep(b []byte) string {
	s, ok := j.kept[string(b)]
	if !ok {
		s = string(b)
		j.kept[s] = s
	}
	return s
}

// intakeOf is what l has received of the stream that e names.
func (j *judge) intakeOf(l *living, e *event) (*intake, error) {
	if l.last != nil && l.last.of.stream.label == string(e.stream) {
		return l.last, nil
	}
	s, err := j.streamOf(e)
	if err != nil {
		return nil, err
	}
	sub := ""
	if s.kind == "pub" {
		if sub = l.Sub; sub == "" {
			sub = l.id
		}
	}
	c := s.group(sub)
	c.some = c.some || l.Some
	in := l.intakes[c]
	if in == nil {
		who := l.where()
		if c.orders[who] == nil {
			c.orders[who] = &order{}
		}
		in = &intake{of: c, group: c.orders[who]}
		l.intakes[c] = in
	}
	l.last = in
	return in, nil
}

// where is the store of a life, or the life itself where it has none.
func (l *living) where() string {
	if l.Store != "" {
		return l.Store
	}
	return "life " + l.Log
}

func (j *judge) takeDeliver(l *living, e *event, at place) error {
	hash, err := e.hashed()
	if err != nil {
		return err
	}
	in, err := j.intakeOf(l, e)
	if err != nil {
		return err
	}
	s := in.of.stream
	m := s.messages.at(e.seq)
	j.count(onePayload)
	switch {
	case !m.seen.known():
		m.seenHash, m.seen = hash, at
	case m.seenHash != hash:
		j.fault(onePayload, []place{m.seen, at}, "message %d of %s is delivered with two bodies", e.seq, short(s.label))
	}
	r := in.of.receipts.at(e.seq)
	h := r.in(at.life)
	if h.deliver == 0 {
		h.deliver, h.t = at.line, e.t
	}
	if h.done != 0 && h.again == 0 {
		h.again = at.line
	}
	h.deliveries++
	j.report.Deliveries++
	j.count(oneUnflagged)
	j.count(noHole)
	if in.closed.Contains(e.seq) {
		j.fault(noHole, []place{at}, "message %d of %s comes after a gap that it lies in", e.seq, short(s.label))
	}
	if e.redelivered {
		h.flags++
		j.report.Flagged++
		return nil
	}
	if r.unflagged.known() {
		j.fault(oneUnflagged, []place{r.unflagged, at}, "message %d of %s is delivered twice without a flag", e.seq, short(s.label))
	} else {
		r.unflagged = at
	}
	in.deliveredFirst(e.seq, at, j)
	return nil
}

// deliveredFirst holds a delivery without a flag to the order of sending.
func (in *intake) deliveredFirst(seq uint64, at place, j *judge) {
	j.count(inOrder)
	if seq > in.highest {
		in.highest, in.at = seq, at
	}
	if seq < in.group.seq && len(in.of.disorder) < maxShown {
		in.of.disorder = append(in.of.disorder, disorder{in.group.seq, seq, []place{in.group.at, at}})
	}
	if seq > in.group.seq {
		in.group.seq, in.group.at = seq, at
	}
}

func (j *judge) takeDone(l *living, e *event, at place) error {
	in, err := j.intakeOf(l, e)
	if err != nil {
		return err
	}
	h := in.of.receipts.at(e.seq).in(at.life)
	if h.deliver == 0 {
		j.fault(doneByHolder, []place{at}, "message %d of %s is done and was not delivered here", e.seq, short(in.of.stream.label))
	}
	if h.done == 0 {
		h.done, h.doneT = at.line, e.t
	}
	return nil
}

// late says which holes are known before anything behind them is sent, so that a gap told after a message from behind
// it is late. A message may also expire or die in the hands of another receiver, after later ones were sent.
func late(reason string) bool {
	return reason == "incarnation" || reason == "corrupt" || reason == "retention" || reason == "dropped"
}

func (j *judge) takeGap(l *living, e *event, at place) error {
	if e.first > e.last {
		return fmt.Errorf("a gap from %d to %d", e.first, e.last)
	}
	in, err := j.intakeOf(l, e)
	if err != nil {
		return err
	}
	j.count(gapInTime)
	news := false
	for range in.told.Missing(e.first, e.last) {
		news = true
		break
	}
	in.told.Add(e.first, e.last)
	if reason := string(e.reason); news && in.highest > e.last && late(reason) {
		j.fault(gapInTime, []place{in.at, at}, "the gap %d to %d (%s) of %s is told after message %d",
			e.first, e.last, reason, short(in.of.stream.label), in.highest)
	}
	if string(e.reason) != "dead" { // of a dead message an older delivery may still be under way
		in.closed.Add(e.first, e.last)
	}
	in.of.gaps.Add(e.first, e.last)
	return nil
}

// ledger is what a summary or snapshot counts.
type ledger struct {
	Carried  uint64            `json:"carried"`
	Accepted uint64            `json:"accepted"`
	Queued   uint64            `json:"queued"`
	Leased   uint64            `json:"leased"`
	Done     uint64            `json:"done"`
	Dead     uint64            `json:"dead"`
	Expired  uint64            `json:"expired"`
	Dropped  map[string]uint64 `json:"dropped"`
}

func (l *ledger) dropped() (n uint64) {
	for _, k := range l.Dropped {
		n += k
	}
	return n
}

func (j *judge) takeLedger(l *living, e *event, at place) error {
	var g ledger
	if err := json.Unmarshal(e.ledger, &g); err != nil {
		return err
	}
	j.count(conserved)
	in, out := g.Carried+g.Accepted, g.Queued+g.Leased+g.Done+g.Dead+g.Expired+g.dropped()
	if in != out {
		j.fault(conserved, []place{at}, "%d carried and accepted, %d accounted for", in, out)
	}
	if string(e.kind) == "summary" {
		l.ledger, l.ended, l.summary = g, e.t, at
	}
	return nil
}

// short is a stream's label without its ids.
func short(label string) string {
	if parts := strings.SplitN(label, ".", 3); len(parts) == 3 {
		return parts[2]
	}
	return label
}
