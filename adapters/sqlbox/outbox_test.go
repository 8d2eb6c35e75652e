package sqlbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/patterns"
	"peermesh/socket"
)

func TestWhatIsCommittedIsSentOnceWhateverIsKilled(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		const kills = 6
		ownMesh(t)
		db := opened(t, d)
		do(t, db, `CREATE TABLE counter (made INTEGER NOT NULL, tries INTEGER NOT NULL)`)
		do(t, db, `INSERT INTO counter VALUES (0, 0)`)
		n := openNode(t, t.TempDir())
		pull := must[*patterns.Pull](t)(n.Pull("orders"))
		ctx := within(t, 2*time.Minute)
		dir := filepath.Join(t.TempDir(), "state")
		p := start(t, "relay", d, dir, n.Addr().String())
		killed := 0
		ids := map[string]bool{}
		for i := 1; i <= orders; i++ {
			m := must[*socket.Message](t)(pull.Recv(ctx))
			if got, want := string(m.Body), fmt.Sprint(i); got != want {
				t.Fatalf("message %d is %s", i, got)
			}
			if id := m.Headers[HeaderOutboxID]; id == "" || ids[id] || m.Headers["kind"] != "order" {
				t.Errorf("message %d has the headers %v", i, m.Headers)
			}
			ids[m.Headers[HeaderOutboxID]] = true
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
			if killed < kills && i > (killed+1)*orders/(kills+2) {
				killed++
				p.kill()
				p = start(t, "relay", d, dir, n.Addr().String())
			}
		}
		await(t, ctx, func() bool { return number(db, `SELECT count(*) FROM peermesh_outbox`) == 0 })
		if err := p.end(); err != nil {
			t.Error(err)
		}
		if m, err := pull.Recv(within(t, 100*time.Millisecond)); err == nil {
			t.Errorf("one too many: %s", m.Body)
		}
	})
}

// outbox opens an outbox and gives it messages.
func outbox(t *testing.T, d database, bodies ...string) (*sql.DB, *Outbox) {
	t.Helper()
	db := opened(t, d)
	box := must[*Outbox](t)(OpenOutbox(t.Context(), db, d.dialect, "test", nil))
	give(t, db, box, bodies...)
	return db, box
}

func give(t *testing.T, db *sql.DB, box *Outbox, bodies ...string) {
	t.Helper()
	tx := must[*sql.Tx](t)(db.BeginTx(t.Context(), nil))
	for _, body := range bodies {
		if err := box.Send(t.Context(), tx, &socket.Message{Body: []byte(body), Key: "k", TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	box.Wake()
}

// relayed runs a relay until stop, when it must end with its context.
func relayed(t *testing.T, box *Outbox, n *node.Node, push *patterns.Push) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- box.Relay(ctx, n, push) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Relay: %v", err)
		}
	}
}

func TestARelaySendsInOrderAndOnlyOnce(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		ownMesh(t)
		n := openNode(t, t.TempDir())
		push := must[*patterns.Push](t)(n.Push("orders"))
		pull := must[*patterns.Pull](t)(n.Pull("orders"))
		var bodies []string
		for i := range 3*batchRows + 1 {
			bodies = append(bodies, fmt.Sprint(i))
		}
		db, box := outbox(t, d, bodies...)
		stop := relayed(t, box, n, push)
		ctx := within(t, time.Minute)
		for _, want := range bodies {
			m := must[*socket.Message](t)(pull.Recv(ctx))
			if string(m.Body) != want || m.Key != "k" || m.TTL != time.Hour {
				t.Fatalf("got %s, key %q, TTL %v, want %s", m.Body, m.Key, m.TTL, want)
			}
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
		}
		await(t, ctx, func() bool { return number(db, `SELECT count(*) FROM peermesh_outbox`) == 0 })
		stop()
		if l := push.Stats().Ledger; l.Accepted != uint64(len(bodies)) {
			t.Errorf("%d sent, want %d", l.Accepted, len(bodies))
		}
	})
}

// The process died after the batch was on its disk and before the database knew.
func TestABatchThatWasSentAndNotDeletedIsNotSentAgain(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		ownMesh(t)
		n := openNode(t, t.TempDir())
		push := must[*patterns.Push](t)(n.Push("orders"))
		db, box := outbox(t, d, "1", "2")
		r := &relay{Outbox: box, node: n, push: push, run: "first"}
		if err := r.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		died := errors.New("died")
		err := r.owning(t.Context(), func(tx *sql.Tx) error {
			rows := must[[]row](t)(box.rows(t.Context(), tx))
			must[[]int64](t)(r.send(t.Context(), rows))
			return died
		})
		if !errors.Is(err, died) {
			t.Fatal(err)
		}
		if n := number(db, `SELECT count(*) FROM peermesh_outbox`); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
		give(t, db, box, "3")
		stop := relayed(t, box, n, push)
		await(t, within(t, 20*time.Second), func() bool { return number(db, `SELECT count(*) FROM peermesh_outbox`) == 0 })
		stop()
		if l := push.Stats().Ledger; l.Accepted != 3 {
			t.Errorf("%d sent, want 3", l.Accepted)
		}
		if _, err := r.send(t.Context(), nil); !errors.Is(err, ErrOwner) {
			t.Errorf("the earlier relay: got %v, want %v", err, ErrOwner)
		}
	})
}

func TestAnOutboxBelongsToOneStateDirectoryUntilItIsReleased(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		ownMesh(t)
		a, b := openNode(t, t.TempDir()), openNode(t, t.TempDir())
		fromA, fromB := must[*patterns.Push](t)(a.Push("orders")), must[*patterns.Push](t)(b.Push("orders"))
		db, box := outbox(t, d, "1")
		ctx := within(t, 20*time.Second)
		empty := func() bool { return number(db, `SELECT count(*) FROM peermesh_outbox`) == 0 }
		stop := relayed(t, box, a, fromA)
		await(t, ctx, empty)
		stop()
		if err := box.Relay(ctx, b, fromB); !errors.Is(err, ErrOwner) {
			t.Errorf("got %v, want %v", err, ErrOwner)
		}
		if err := box.Release(ctx); err != nil {
			t.Fatal(err)
		}
		give(t, db, box, "2")
		stop = relayed(t, box, b, fromB)
		await(t, ctx, empty)
		stop()
		if err := box.Relay(ctx, a, fromA); !errors.Is(err, ErrOwner) {
			t.Errorf("got %v, want %v", err, ErrOwner)
		}
	})
}

func TestARelayEndsWhenTryingAgainIsOfNoUse(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		ownMesh(t)
		ctx := within(t, 20*time.Second)
		_, box := outbox(t, d, strings.Repeat("x", 9<<20)) // nodes allow 8 MiB if they are not told otherwise
		n := openNode(t, t.TempDir())
		push := must[*patterns.Push](t)(n.Push("orders"))
		if err := box.Relay(ctx, n, push); !errors.Is(err, socket.ErrTooLarge) {
			t.Errorf("got %v, want %v", err, socket.ErrTooLarge)
		}
		memory := must[*patterns.Push](t)(n.Push("quick", patterns.Durability(socket.Memory)))
		if err := box.Relay(ctx, n, memory); !errors.Is(err, patterns.ErrTxPush) {
			t.Errorf("got %v, want %v", err, patterns.ErrTxPush)
		}
		if err := box.Relay(ctx, openNode(t, ""), push); !errors.Is(err, socket.ErrNoDir) {
			t.Errorf("got %v, want %v", err, socket.ErrNoDir)
		}
	})
}

func TestWhatCannotBeSentIsRefusedInTheTransaction(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		db, box := outbox(t, d)
		tx := must[*sql.Tx](t)(db.BeginTx(t.Context(), nil))
		defer tx.Rollback()
		for name, m := range map[string]*socket.Message{
			"topic":   {Topic: "a"},
			"header":  {Headers: socket.Headers{"": "x"}},
			"text":    {Headers: socket.Headers{"x": "\xff"}},
			"headers": {Headers: socket.Headers{"x": strings.Repeat("x", 1<<20)}},
			"key":     {Key: strings.Repeat("x", 256)},
			"TTL":     {TTL: time.Microsecond},
		} {
			if err := box.Send(t.Context(), tx, m); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	})
}
