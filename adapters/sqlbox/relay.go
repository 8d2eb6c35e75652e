package sqlbox

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"
)

const (
	batchRows  = 256     // of one transaction, within patterns.MaxTxOps
	batchBytes = 4 << 20 // from which on a batch takes no more
	pollEvery  = 200 * time.Millisecond
	retryAfter = time.Second
)

// ErrOwner is an outbox that the relay of another state directory has, or a later relay of
// this one. See Release.
var ErrOwner = errors.New("sqlbox: the outbox belongs to another relay")

// progress is what the state directory knows of an outbox. It changes in the transaction that
// sends a batch.
//
//	         the batch is sent         its rows are deleted
//	Batch: ---------------------> ids ----------------------> the same ids, of no rows
type progress struct {
	Store string  // names this state directory to the database
	Run   string  // the relay that may send
	Batch []int64 // rows that are sent, and perhaps not deleted
}

// relay is one run of Relay.
type relay struct {
	*Outbox
	node  *node.Node
	push  *patterns.Push
	store string
	run   string
}

// Relay moves messages from the outbox into push, a durable Push of n, until ctx ends; then it
// returns its cause. Each is sent once, in the order of the ids, and deleted when it is on n's
// disk. What may pass, a database that is not there or a full disk, is logged and tried again
// after a second. Relay ends with ErrOwner when another relay has the outbox, with an error
// that matches socket.ErrTooLarge when a message is larger than n allows, and when n or push
// closes. A later Relay for the same outbox and node takes over from this one.
func (o *Outbox) Relay(ctx context.Context, n *node.Node, push *patterns.Push) error {
	r := &relay{Outbox: o, node: n, push: push, run: rand.Text()}
	if err := r.begin(ctx); err != nil {
		return fmt.Errorf("sqlbox: relay %q: %w", o.name, err)
	}
	clean := false // the rows of the last batch are known to be gone
	for {
		more, err := r.step(ctx, &clean)
		pause := pollEvery
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && final(err):
			return fmt.Errorf("sqlbox: relay %q: %w", o.name, err)
		case err != nil:
			o.log.Warn("relay tries again", "outbox", o.name, "err", err)
			clean, pause = false, retryAfter
		case more:
			continue
		}
		select {
		case <-time.After(pause):
		case <-o.wake:
		case <-ctx.Done():
		}
	}
}

// final reports whether trying again is of no use.
func final(err error) bool {
	for _, f := range []error{ErrOwner, net.ErrClosed, socket.ErrTooLarge, socket.ErrNoDir, socket.ErrStorage, spool.ErrFailed, patterns.ErrTxPush} {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}

func (r *relay) key() string { return "sqlbox/outbox/" + r.name }

// begin makes this run the one that may send.
func (r *relay) begin(ctx context.Context) error {
	return r.node.Tx(ctx, func(tx *node.Tx) error {
		p, err := r.progress(tx.Get(r.key()))
		if err != nil {
			return err
		}
		if p.Store == "" {
			p.Store = rand.Text()
		}
		p.Run = r.run
		r.store = p.Store
		return r.put(tx, p)
	})
}

func (r *relay) progress(value []byte) (p progress, err error) {
	if value == nil {
		return p, nil
	}
	if err := json.Unmarshal(value, &p); err != nil {
		return p, fmt.Errorf("what the state directory says of it: %w", err)
	}
	return p, nil
}

func (r *relay) put(tx *node.Tx, p progress) error {
	value, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return tx.Put(r.key(), value)
}

// step moves one batch. It reports whether there may be more.
func (r *relay) step(ctx context.Context, clean *bool) (bool, error) {
	if !*clean {
		if err := r.finish(ctx); err != nil {
			return false, err
		}
		*clean = true
	}
	var some int
	err := r.db.QueryRowContext(ctx, r.dialect.sql(`SELECT 1 FROM peermesh_outbox WHERE outbox = $1 LIMIT 1`), r.name).Scan(&some)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.owning(ctx, func(tx *sql.Tx) error {
		rows, err := r.rows(ctx, tx)
		if err != nil {
			return err
		}
		ids, err := r.send(ctx, rows)
		if err != nil {
			return err
		}
		return r.delete(ctx, tx, ids)
	})
}

// owning runs f in a transaction that holds the outbox's row: relays come one after the other,
// and only the owner's.
func (r *relay) owning(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // without effect after Commit
	res, err := tx.ExecContext(ctx, r.dialect.sql(`UPDATE peermesh_outbox_owner SET owner = $1, batches = batches + 1
		WHERE outbox = $2 AND owner IN ($1, '')`), r.store, r.name)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrOwner
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// finish deletes the rows of the last batch: they were sent, and whoever sent them may have
// died before it could.
func (r *relay) finish(ctx context.Context) error {
	return r.owning(ctx, func(tx *sql.Tx) error {
		value, err := r.node.Get(ctx, r.key())
		if err != nil {
			return err
		}
		p, err := r.progress(value)
		if err != nil {
			return err
		}
		return r.delete(ctx, tx, p.Batch)
	})
}

// send sends a batch and notes its ids in one transaction of the node.
func (r *relay) send(ctx context.Context, rows []row) (ids []int64, err error) {
	for _, row := range rows {
		ids = append(ids, row.id)
	}
	return ids, r.node.Tx(ctx, func(tx *node.Tx) error {
		p, err := r.progress(tx.Get(r.key()))
		if err != nil {
			return err
		}
		if p.Run != r.run {
			return ErrOwner // a later relay of this node
		}
		for _, row := range rows {
			if err := tx.Send(r.push, row.message); err != nil {
				return fmt.Errorf("row %d: %w", row.id, err)
			}
		}
		p.Batch = ids
		return r.put(tx, p)
	})
}

func (r *relay) delete(ctx context.Context, tx *sql.Tx, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = strconv.FormatInt(id, 10)
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM peermesh_outbox WHERE id IN (`+strings.Join(list, ",")+`)`)
	return err
}
