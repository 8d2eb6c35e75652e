package patterns

import (
	"fmt"
	"maps"

	"peermesh/internal/ledger"
	"peermesh/internal/wire"
	"peermesh/socket"
	"peermesh/spool"
)

// Headers of a dead letter, beside its own.
const (
	HeaderDeadID    = "original-id"    // stream and seq of the message: "STREAM/SEQ"
	HeaderDeadCause = "peermesh-cause" // the last handler error, or what else ended it
	HeaderDeadTries = "peermesh-deliveries"
	HeaderDeadSub   = "peermesh-subscription" // of Pub: the durable subscription whose copy it was
)

// bury moves a dead message into the dead letters, in the transaction that settles it.
func (t *tail) bury(c *spool.Change, st ledger.Settlement, subscription string) error {
	m, err := unframe(st.Record)
	if err != nil {
		return err
	}
	headers := socket.Headers{HeaderDeadID: fmt.Sprintf("%s/%d", t.owner.stream, st.Seq)}
	maps.Copy(headers, m.Headers) // one that died before keeps its first id
	headers[HeaderDeadCause] = st.Text
	headers[HeaderDeadTries] = fmt.Sprint(st.Deliveries)
	if subscription != "" {
		headers[HeaderDeadSub] = subscription
	}
	m.Delay = 0 // it is over
	full := *m
	full.Headers = headers
	p, err := t.owner.framer.Prepare(&full)
	if err != nil { // its own headers leave no room
		if p, err = t.owner.framer.Prepare(m); err != nil {
			return err
		}
	}
	_, _, _, err = c.AppendAnyway(t.dead, p.MaxSize(), p.Append)
	return err
}

// unframe reads a record back.
func unframe(record []byte) (*socket.Message, error) {
	r, _, err := wire.NextRecord(record)
	if err != nil {
		return nil, err
	}
	return socket.Unframe(r)
}
