package sqlbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"peermesh/socket"
)

// Inbox applies messages to a database exactly once. Safe for concurrent use.
type Inbox struct {
	db      *sql.DB
	dialect Dialect
	name    string
	log     *slog.Logger
}

// Source is where messages come from: a Pull, or a Sub with a durable name. What is not
// durable is not sent again, and needs no inbox.
type Source interface {
	Handle(ctx context.Context, n int, handler func(context.Context, *socket.Message) error) error
	Confirmed() []socket.Confirmed
}

// Handler applies m within tx. It must not answer m, nor end tx.
type Handler func(ctx context.Context, tx *sql.Tx, m *socket.Message) error

// ErrNotHeld is why a message was given back without running its handler: the sender was not
// heard of for some seconds, and may have leased it to another puller.
var ErrNotHeld = errors.New("sqlbox: the message may be somebody else's by now")

// OpenInbox makes the table peermesh_inbox if it is missing. name tells inboxes in one
// database apart: handlers that each must see a message once have a name each. log is for what
// goes wrong in forgetting; nil: nothing is logged.
func OpenInbox(ctx context.Context, db *sql.DB, d Dialect, name string, log *slog.Logger) (*Inbox, error) {
	if _, _, err := d.words(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	err := create(ctx, db, `CREATE TABLE IF NOT EXISTS peermesh_inbox (
		inbox TEXT NOT NULL, stream TEXT NOT NULL, seq BIGINT NOT NULL, edition BIGINT NOT NULL,
		PRIMARY KEY (inbox, stream, seq, edition))`)
	if err != nil {
		return nil, err
	}
	return &Inbox{db: db, dialect: d, name: name, log: log}, nil
}

// Handle runs handler for n messages at a time, each in a transaction of its own with the
// default isolation of the database. When it returns nil, the transaction is committed and the
// message acked; on an error it is rolled back and the message comes again, as after a Nack.
// An unknown outcome of the commit does no harm: the message comes again, and its id tells.
// While no transaction can be begun, messages wait, and the log says so.
// Handle blocks until ctx ends or the socket closes and every handler has returned.
func (b *Inbox) Handle(ctx context.Context, from Source, n int, handler Handler) error {
	p := &pruner{box: b, from: from, owed: from.Confirmed()} // from now on nothing confirmed is missed
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { p.run(ctx, stop) })
	err := from.Handle(ctx, n, func(ctx context.Context, m *socket.Message) error { return b.apply(ctx, m, handler) })
	close(stop)
	wg.Wait()
	return err
}

// apply runs the handler unless the message is recorded already.
func (b *Inbox) apply(ctx context.Context, m *socket.Message, handler Handler) error {
	tx, fresh, err := b.begin(ctx, m)
	if err != nil {
		return err
	}
	defer tx.Rollback() // without effect after Commit
	switch {
	case !fresh:
		return nil
	case !m.Held():
		// Somebody else may have handled it, and its id may have been forgotten since. From
		// here on the row that this transaction has written keeps everybody else waiting.
		return ErrNotHeld
	}
	if err := handler(ctx, tx, m); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("sqlbox: commit: %w", err)
	}
	return nil
}

// begin begins a transaction with the message's id. While the database is not there it holds
// on to the message: that is no fault of the message, and counts nothing against it.
func (b *Inbox) begin(ctx context.Context, m *socket.Message) (*sql.Tx, bool, error) {
	for {
		tx, fresh, err := b.tryBegin(ctx, m)
		if err == nil {
			return tx, fresh, nil
		}
		if ctx.Err() == nil {
			b.log.Warn("a message waits for the database", "inbox", b.name, "err", err)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return nil, false, err
		}
	}
}

func (b *Inbox) tryBegin(ctx context.Context, m *socket.Message) (*sql.Tx, bool, error) {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, false, fmt.Errorf("sqlbox: begin: %w", err)
	}
	fresh, err := b.record(ctx, tx, m)
	if err != nil {
		return nil, false, errors.Join(err, tx.Rollback())
	}
	return tx, fresh, nil
}

// record writes the message's id, and reports whether it was not there. It waits for a
// transaction of somebody else that writes the same id.
func (b *Inbox) record(ctx context.Context, tx *sql.Tx, m *socket.Message) (bool, error) {
	res, err := tx.ExecContext(ctx, b.dialect.sql(`INSERT INTO peermesh_inbox (inbox, stream, seq, edition)
		VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`), b.name, m.Stream(), int64(m.Seq()), int64(m.Edition()))
	if err != nil {
		return false, fmt.Errorf("sqlbox: record the id: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// Forget forgets all ids of a sender's stream, as Message.Stream names it: of one that will
// never come back.
func (b *Inbox) Forget(ctx context.Context, stream string) error {
	_, err := b.db.ExecContext(ctx, b.dialect.sql(`DELETE FROM peermesh_inbox WHERE inbox = $1 AND stream = $2`), b.name, stream)
	if err != nil {
		return fmt.Errorf("sqlbox: forget: %w", err)
	}
	return nil
}

// pruner forgets what was confirmed.
type pruner struct {
	box  *Inbox
	from Source
	owed []socket.Confirmed
}

const (
	pruneEvery = time.Second // only how often it looks: what it forgets is for the sender to say
	lastPrune  = time.Second // bounds the last look, when Handle ends
)

func (p *pruner) run(ctx context.Context, stop <-chan struct{}) {
	t := time.NewTicker(pruneEvery)
	defer t.Stop()
	for {
		p.prune(ctx)
		select {
		case <-t.C:
		case <-stop:
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPrune)
			defer cancel()
			p.prune(ctx)
			return
		}
	}
}

// prune forgets as much as it can. What it cannot now it tries again, and what is lost with
// the process is told anew when the stream attaches the next time.
func (p *pruner) prune(ctx context.Context) {
	p.owed = append(p.owed, p.from.Confirmed()...)
	for len(p.owed) > 0 {
		if err := p.box.forget(ctx, p.owed[0]); err != nil {
			if ctx.Err() == nil {
				p.box.log.Warn("ids of handled messages are kept for now", "inbox", p.box.name, "err", err)
			}
			return
		}
		p.owed = p.owed[1:]
	}
}

func (b *Inbox) forget(ctx context.Context, c socket.Confirmed) error {
	statement := `DELETE FROM peermesh_inbox WHERE inbox = $1 AND stream = $2 AND seq BETWEEN $3 AND $4`
	args := []any{b.name, c.Stream, int64(c.From), int64(c.To)}
	if c.Edition != 0 {
		statement += ` AND edition = $5`
		args = append(args, int64(c.Edition))
	}
	_, err := b.db.ExecContext(ctx, b.dialect.sql(statement), args...)
	return err
}
