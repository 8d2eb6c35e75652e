package main

import (
	"bufio"
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"time"

	"peermesh/patterns"
	"peermesh/socket"
)

// eventLog prints the events of a part much as the command's --json does, but in few bytes, and many in one write: of
// millions of events the logs must not be what keeps the disk busy. What a part must have said before it goes on, it
// flushes. A write that fails is remembered. Safe for concurrent use.
type eventLog struct {
	mu  sync.Mutex
	w   *bufio.Writer
	row []byte
}

func newEventLog(w io.Writer) *eventLog { return &eventLog{w: bufio.NewWriterSize(w, 1<<16)} }

// flush prints what has been noted so far, and returns what has gone wrong until now.
func (l *eventLog) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Flush()
}

// put notes one event; more appends its fields.
func (l *eventLog) put(kind string, more func(row []byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	row := append(l.row[:0], `{"t":`...)
	row = strconv.AppendInt(row, monotonic(), 10)
	row = append(row, `,"event":"`...)
	row = append(row, kind...)
	row = append(row, '"')
	l.row = append(more(row), "}\n"...)
	_, _ = l.w.Write(l.row) // flush returns the error
}

func number(row []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(append(append(row, `,"`...), name...), `":`...), n, 10)
}

func (l *eventLog) ready() { l.put("ready", func(row []byte) []byte { return row }) }

// sent tells that body n is on disk, in which place.
func (l *eventLog) sent(n, seq uint64) {
	l.put("sent", func(row []byte) []byte { return number(number(row, "n", n), "seq", seq) })
}

// deliver tells that body n came, from which place.
func (l *eventLog) deliver(m *socket.Message, n uint64) {
	l.put("deliver", func(row []byte) []byte {
		row = number(number(row, "n", n), "seq", m.Seq())
		if m.Redelivered() {
			row = append(row, `,"redelivered":true`...)
		}
		return row
	})
}

// done tells that a message is done, on disk.
func (l *eventLog) done(m *socket.Message) {
	l.put("done", func(row []byte) []byte { return number(row, "seq", m.Seq()) })
}

func (l *eventLog) gap(g socket.Gap) {
	l.put("gap", func(row []byte) []byte {
		row = append(append(row, `,"reason":"`...), g.Reason...) // one of a few words
		return number(number(append(row, '"'), "from", g.From), "to", g.To)
	})
}

// step tells how far a part has come.
func (l *eventLog) step(n uint64) {
	l.put("step", func(row []byte) []byte { return number(row, "n", n) })
}

// summary tells what a sender's ledger says in the end.
func (l *eventLog) summary(g patterns.Ledger) error {
	if g.Dropped == nil {
		g.Dropped = map[string]uint64{}
	}
	fields, err := json.Marshal(g)
	if err != nil {
		return err
	}
	l.put("summary", func(row []byte) []byte { return append(append(row, `,"ledger":`...), fields...) })
	return nil
}

// flushOften flushes the log again and again, until stop, which returns what has gone wrong until then.
func (l *eventLog) flushOften() (stop func() error) {
	tick := time.NewTicker(10 * time.Millisecond)
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-tick.C:
				_ = l.flush() // the last one tells
			case <-end:
				return
			}
		}
	})
	return func() error {
		tick.Stop()
		close(end)
		wg.Wait()
		return l.flush()
	}
}
