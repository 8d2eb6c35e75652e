package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"sync"

	"peermesh/patterns"
	"peermesh/socket"
)

// version of the objects under --json. What is there stays; it only grows.
const eventVersion = 1

// events writes what happens as JSON: one object a line, each in one write, before
// the next step is taken. A nil *events writes nothing. Safe for concurrent use.
type events struct {
	mu     sync.Mutex
	w      io.Writer
	line   bytes.Buffer
	enc    *json.Encoder
	failed error
	onFail func(error)
}

func newEvents(w io.Writer) *events {
	e := &events{w: w}
	e.enc = json.NewEncoder(&e.line)
	e.enc.SetEscapeHTML(false)
	return e
}

// emit writes one event; fields is a struct of ours. When stdout fails the rest is
// not written and onFail is told once.
func (e *events) emit(kind string, fields any) {
	if e == nil {
		return
	}
	e.mu.Lock()
	err := e.write(kind, fields)
	first := err != nil && e.failed == nil
	if first {
		e.failed = err
	}
	onFail := e.onFail
	e.mu.Unlock()
	if first && onFail != nil {
		onFail(err)
	}
}

// write builds the line and writes it. e.mu must be held.
func (e *events) write(kind string, fields any) error {
	if e.failed != nil {
		return e.failed
	}
	e.line.Reset()
	if err := e.enc.Encode(fields); err != nil {
		return err
	}
	body := e.line.Bytes()[1:] // without its brace
	head := append(make([]byte, 0, 64+len(body)), `{"v":`...)
	head = strconv.AppendInt(head, eventVersion, 10)
	head = append(head, `,"t":`...)
	head = strconv.AppendInt(head, monotonic(), 10)
	head = append(head, `,"event":"`...)
	head = append(head, kind...)
	head = append(head, '"')
	if body[0] != '}' {
		head = append(head, ',')
	}
	_, err := e.w.Write(append(head, body...))
	return err
}

// err is why stdout takes no data any more; nil as long as it does.
func (e *events) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed
}

// tell sets whom a failing stdout is told to.
func (e *events) tell(onFail func(error)) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onFail = onFail
}

// The events of the verbs that talk; the names of the types are theirs in the
// contract.
type (
	readyEvent struct {
		ID          string `json:"id"`
		Name        string `json:"name"`
		Addr        string `json:"addr"`
		Incarnation uint64 `json:"incarnation"`
	}
	peerEvent struct {
		ID     string `json:"id"`
		Name   string `json:"name"`
		Addr   string `json:"addr"`
		State  string `json:"state"`
		Code   string `json:"code,omitempty"`
		Reason string `json:"reason,omitempty"`
		Remote bool   `json:"remote,omitempty"` // the other side refused
	}
	sendEvent struct {
		N    uint64 `json:"n"`
		Hash string `json:"hash"`
		Size int    `json:"size"`
	}
	sentEvent struct {
		N      uint64 `json:"n"`
		Stream string `json:"stream"`
		Seq    uint64 `json:"seq"`
		Level  string `json:"level"`
	}
	refusedEvent struct {
		N        uint64 `json:"n"`
		Definite bool   `json:"definite"`
		Code     string `json:"code"`
	}
	unknownEvent struct {
		N uint64 `json:"n"`
	}
	settledEvent struct {
		N      *uint64 `json:"n,omitempty"` // nil: not sent by this run, but found on disk
		Stream string  `json:"stream"`
		Seq    uint64  `json:"seq"`
		State  string  `json:"state"`
		Reason string  `json:"reason,omitempty"`
		By     string  `json:"by,omitempty"`
		Sub    string  `json:"sub,omitempty"`
	}
	deliverEvent struct {
		From        string `json:"from"`
		Stream      string `json:"stream"`
		Seq         uint64 `json:"seq"`
		Attempt     uint64 `json:"attempt"`
		Redelivered bool   `json:"redelivered"`
		Hash        string `json:"hash"`
		Size        int    `json:"size"`
		Topic       string `json:"topic,omitempty"`
	}
	answeredEvent struct { // done and nack
		Stream string `json:"stream"`
		Seq    uint64 `json:"seq"`
	}
	holeEvent struct { // gap and loss
		Stream string `json:"stream"`
		From   uint64 `json:"from"`
		To     uint64 `json:"to"`
		Reason string `json:"reason,omitempty"`
	}
	mismatchEvent struct { // a body that --verify-seed found wrong
		Stream string `json:"stream"`
		Seq    uint64 `json:"seq"`
		Hash   string `json:"hash"`
		Size   int    `json:"size"`
	}
	replyEvent struct {
		N       uint64 `json:"n"`
		Outcome string `json:"outcome"`
		Hash    string `json:"hash,omitempty"` // of an answer
		By      string `json:"by,omitempty"`
		Error   string `json:"error,omitempty"`
	}
	summaryEvent struct {
		Ledger   patterns.Ledger `json:"ledger"`
		Received *receivedView   `json:"received,omitempty"` // of the verbs that receive
	}
)

// receivedOf translates counts.
func receivedOf(s socket.InboxStats) *receivedView {
	return &receivedView{Delivered: s.Delivered, Done: s.Done, Nacked: s.Nacked, Returned: s.Returned, Expired: s.Expired, Duplicates: s.Duplicates,
		Redelivered: s.Redelivered, Gaps: s.Gaps, Bytes: s.Bytes, Queued: s.Queued, Begun: s.Begun, Pipes: s.Pipes, Paused: s.Paused}
}

// whole is a ledger whose every part can be read by a script.
func whole(l patterns.Ledger) patterns.Ledger {
	if l.Dropped == nil {
		l.Dropped = map[string]uint64{}
	}
	return l
}
