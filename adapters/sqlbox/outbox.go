package sqlbox

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"peermesh/socket"
)

// HeaderOutboxID names a row of an outbox for good, whatever becomes of the message later. A
// message that has one is the same as any other with the same one.
const HeaderOutboxID = "peermesh-outbox-id"

// Outbox takes messages in the transactions of a database. Safe for concurrent use.
type Outbox struct {
	db      *sql.DB
	dialect Dialect
	name    string
	log     *slog.Logger
	id      string // of the outbox, for HeaderOutboxID
	wake    chan struct{}
}

// OpenOutbox makes the tables peermesh_outbox and peermesh_outbox_owner if they are missing.
// name tells outboxes in one database apart: each is for one queue. log is for what a relay
// tries again; nil: nothing is logged.
func OpenOutbox(ctx context.Context, db *sql.DB, d Dialect, name string, log *slog.Logger) (*Outbox, error) {
	bytes, id, err := d.words()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	err = create(ctx, db,
		`CREATE TABLE IF NOT EXISTS peermesh_outbox (
			id `+id+`, outbox TEXT NOT NULL, headers TEXT NOT NULL, message_key TEXT NOT NULL,
			ttl_ms BIGINT NOT NULL, body `+bytes+` NOT NULL)`,
		`CREATE INDEX IF NOT EXISTS peermesh_outbox_order ON peermesh_outbox (outbox, id)`,
		`CREATE TABLE IF NOT EXISTS peermesh_outbox_owner (
			outbox TEXT PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, batches BIGINT NOT NULL)`)
	if err != nil {
		return nil, err
	}
	o := &Outbox{db: db, dialect: d, name: name, log: log, wake: make(chan struct{}, 1)}
	_, err = db.ExecContext(ctx, d.sql(`INSERT INTO peermesh_outbox_owner (outbox, id, owner, batches)
		VALUES ($1, $2, '', 0) ON CONFLICT DO NOTHING`), name, rand.Text())
	if err == nil {
		err = db.QueryRowContext(ctx, d.sql(`SELECT id FROM peermesh_outbox_owner WHERE outbox = $1`), name).Scan(&o.id)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlbox: open outbox %q: %w", name, err)
	}
	return o, nil
}

// Send writes m into the outbox: it will be sent if tx is committed, and not otherwise. A TTL
// begins when the relay takes the message; a Delay is an error. m may be used again at once.
func (o *Outbox) Send(ctx context.Context, tx *sql.Tx, m *socket.Message) error {
	switch {
	case m.Topic != "":
		return errors.New("sqlbox: a message of a queue has no topic")
	case m.Delay != 0:
		return errors.New("sqlbox: the outbox keeps no delay")
	}
	if err := o.check(m); err != nil {
		return fmt.Errorf("sqlbox: outbox %q: %w", o.name, err)
	}
	headers, err := json.Marshal(m.Headers)
	if err != nil {
		return fmt.Errorf("sqlbox: headers: %w", err)
	}
	body := m.Body
	if body == nil {
		body = []byte{} // nil would be NULL
	}
	_, err = tx.ExecContext(ctx, o.dialect.sql(`INSERT INTO peermesh_outbox (outbox, headers, message_key, ttl_ms, body)
		VALUES ($1, $2, $3, $4, $5)`), o.name, string(headers), m.Key, m.TTL.Milliseconds(), body)
	if err != nil {
		return fmt.Errorf("sqlbox: outbox %q: %w", o.name, err)
	}
	return nil
}

// check refuses now what no relay could send later.
func (o *Outbox) check(m *socket.Message) error {
	as := &socket.Message{Body: m.Body, Key: m.Key, TTL: m.TTL}
	as.Headers = socket.Headers{HeaderOutboxID: rowID(o.id, math.MaxInt64)}
	for k, v := range m.Headers {
		if k != HeaderOutboxID {
			as.Headers[k] = v
		}
	}
	_, err := (&socket.Framer{MaxMessage: maxBody}).Prepare(as)
	return err
}

// maxBody is the most that any node allows.
const maxBody = 64 << 20

func rowID(outbox string, row int64) string { return fmt.Sprintf("%s/%d", outbox, row) }

// Wake makes a relay of this Outbox look at once, say after the commit; without it a message
// waits up to 200 ms. It does not block.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Release lets the relay of another state directory go on, because the one that had the outbox
// until now is lost or gives it up. A relay that still runs ends with ErrOwner. A batch that
// was sent and not yet deleted is sent again, with the same HeaderOutboxID.
func (o *Outbox) Release(ctx context.Context) error {
	_, err := o.db.ExecContext(ctx, o.dialect.sql(`UPDATE peermesh_outbox_owner SET owner = '' WHERE outbox = $1`), o.name)
	if err != nil {
		return fmt.Errorf("sqlbox: release outbox %q: %w", o.name, err)
	}
	return nil
}

// row is a message as the table keeps it.
type row struct {
	id      int64
	message *socket.Message
}

// rows reads the next messages, up to a batch.
func (o *Outbox) rows(ctx context.Context, tx *sql.Tx) (out []row, err error) {
	rs, err := tx.QueryContext(ctx, o.dialect.sql(`SELECT id, headers, message_key, ttl_ms, body FROM peermesh_outbox
		WHERE outbox = $1 ORDER BY id LIMIT `+fmt.Sprint(batchRows)), o.name)
	if err != nil {
		return nil, err
	}
	defer rs.Close()
	for size := 0; size < batchBytes && rs.Next(); {
		r := row{message: &socket.Message{}}
		var headers string
		var ttl int64
		if err := rs.Scan(&r.id, &headers, &r.message.Key, &ttl, &r.message.Body); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(headers), &r.message.Headers); err != nil {
			return nil, fmt.Errorf("headers of row %d: %w", r.id, err)
		}
		if r.message.Headers == nil {
			r.message.Headers = socket.Headers{}
		}
		r.message.Headers[HeaderOutboxID] = rowID(o.id, r.id)
		r.message.TTL = time.Duration(ttl) * time.Millisecond
		size += len(r.message.Body) + len(headers)
		out = append(out, r)
	}
	return out, rs.Err()
}
