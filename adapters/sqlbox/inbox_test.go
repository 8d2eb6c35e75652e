package sqlbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"peermesh/patterns"
	"peermesh/socket"
)

// checkApplied demands that each of the bodies 1..total is in the table applied once.
func checkApplied(t *testing.T, db *sql.DB, total int) {
	t.Helper()
	if n := number(db, `SELECT count(*) FROM applied`); n != total {
		t.Errorf("%d applied, want %d", n, total)
	}
	if n := number(db, `SELECT count(DISTINCT body) FROM applied`); n != total {
		t.Errorf("%d different ones, want %d", n, total)
	}
}

func TestMessagesAreAppliedOnceWhateverIsKilled(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		const total, kills = 400, 6
		ownMesh(t)
		db := opened(t, d)
		do(t, db, `CREATE TABLE applied (body TEXT NOT NULL)`)
		n := openNode(t, t.TempDir())
		push := must[*patterns.Push](t)(n.Push("jobs"))
		ctx := within(t, 2*time.Minute)
		for i := 1; i <= total; i++ {
			must[*patterns.Receipt](t)(push.Post(ctx, &socket.Message{Body: fmt.Append(nil, i)}))
		}
		dir := filepath.Join(t.TempDir(), "state")
		p := start(t, "apply", d, dir, n.Addr().String())
		for i := 1; i <= kills; i++ {
			await(t, ctx, func() bool { return number(db, `SELECT count(*) FROM applied`) >= i*total/(kills+2) })
			p.kill()
			p = start(t, "apply", d, dir, n.Addr().String())
		}
		if err := push.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		checkApplied(t, db, total)
		p.kill()
		start(t, "apply", d, dir, n.Addr().String()) // told what was settled while nobody heard it
		await(t, ctx, func() bool { return number(db, `SELECT count(*) FROM peermesh_inbox`) == 0 })
	})
}

// await looks again and again: another process does what is awaited.
func await(t *testing.T, ctx context.Context, done func() bool) {
	t.Helper()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// received is messages that a Pull has in hand, and the Push that sent them.
func received(t *testing.T, bodies ...string) (*patterns.Push, []*socket.Message) {
	ownMesh(t)
	n := openNode(t, t.TempDir())
	push := must[*patterns.Push](t)(n.Push("jobs"))
	pull := must[*patterns.Pull](t)(n.Pull("jobs"))
	var ms []*socket.Message
	for _, body := range bodies {
		if err := push.Send(t.Context(), []byte(body)); err != nil {
			t.Fatal(err)
		}
		ms = append(ms, must[*socket.Message](t)(pull.Recv(within(t, 20*time.Second))))
	}
	return push, ms
}

func inserting(d Dialect) Handler {
	return func(ctx context.Context, tx *sql.Tx, m *socket.Message) error {
		_, err := tx.ExecContext(ctx, d.sql(`INSERT INTO applied (body) VALUES ($1)`), string(m.Body))
		return err
	}
}

func TestAMessageThatIsRecordedIsNotHandledAgain(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		_, ms := received(t, "1")
		db := opened(t, d)
		do(t, db, `CREATE TABLE applied (body TEXT NOT NULL)`)
		box := must[*Inbox](t)(OpenInbox(t.Context(), db, d.dialect, "a", nil))
		other := must[*Inbox](t)(OpenInbox(t.Context(), db, d.dialect, "b", nil))

		boom := errors.New("boom")
		err := box.apply(t.Context(), ms[0], func(ctx context.Context, tx *sql.Tx, m *socket.Message) error {
			return errors.Join(inserting(d.dialect)(ctx, tx, m), boom)
		})
		if !errors.Is(err, boom) {
			t.Errorf("got %v, want %v", err, boom)
		}
		checkApplied(t, db, 0)
		for range 2 {
			if err := box.apply(t.Context(), ms[0], inserting(d.dialect)); err != nil {
				t.Error(err)
			}
		}
		checkApplied(t, db, 1)
		if err := other.apply(t.Context(), ms[0], inserting(d.dialect)); err != nil {
			t.Error(err)
		}
		if n := number(db, `SELECT count(*) FROM applied`); n != 2 {
			t.Errorf("two inboxes applied it %d times", n)
		}
		if err := box.Forget(t.Context(), ms[0].Stream()); err != nil {
			t.Error(err)
		}
		if n := number(db, `SELECT count(*) FROM peermesh_inbox`); n != 1 {
			t.Errorf("%d ids are left after Forget, want that of the other inbox", n)
		}
	})
}

func TestAMessageWaitsForTheDatabaseAndIsNotGivenBack(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		_, ms := received(t, "1")
		db := opened(t, d)
		do(t, db, `CREATE TABLE applied (body TEXT NOT NULL)`)
		box := must[*Inbox](t)(OpenInbox(t.Context(), db, d.dialect, "a", nil))
		do(t, db, `ALTER TABLE peermesh_inbox RENAME TO away`)
		done := make(chan error, 1)
		go func() { done <- box.apply(t.Context(), ms[0], inserting(d.dialect)) }()
		select {
		case err := <-done:
			t.Errorf("it did not wait: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		do(t, db, `ALTER TABLE away RENAME TO peermesh_inbox`)
		if err := <-done; err != nil {
			t.Error(err)
		}
		checkApplied(t, db, 1)

		do(t, db, `ALTER TABLE peermesh_inbox RENAME TO away`)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := box.apply(ctx, ms[0], inserting(d.dialect)); err == nil {
			t.Error("it was applied without the table")
		}
	})
}

func TestTwoThatApplyTheSameMessageWaitForEachOther(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		_, ms := received(t, "1")
		db := opened(t, d)
		do(t, db, `CREATE TABLE applied (body TEXT NOT NULL)`)
		box := must[*Inbox](t)(OpenInbox(t.Context(), db, d.dialect, "a", nil))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := box.apply(t.Context(), ms[0], inserting(d.dialect)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		checkApplied(t, db, 1)
	})
}

func TestAMessageThatMayBeSomebodyElsesIsNotHandled(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		_, ms := received(t, "1")
		db := opened(t, d)
		do(t, db, `CREATE TABLE applied (body TEXT NOT NULL)`)
		box := must[*Inbox](t)(OpenInbox(t.Context(), db, d.dialect, "a", nil))
		if err := ms[0].Nack(nil); err != nil { // what a lost lease is, without the wait
			t.Fatal(err)
		}
		if err := box.apply(t.Context(), ms[0], inserting(d.dialect)); !errors.Is(err, ErrNotHeld) {
			t.Errorf("got %v, want %v", err, ErrNotHeld)
		}
		checkApplied(t, db, 0)
		if n := number(db, `SELECT count(*) FROM peermesh_inbox`); n != 0 {
			t.Errorf("%d ids recorded", n)
		}
	})
}

// confirmed is a source that only confirms.
type confirmed []socket.Confirmed

func (*confirmed) Handle(context.Context, int, func(context.Context, *socket.Message) error) error {
	return nil
}

func (c *confirmed) Confirmed() []socket.Confirmed {
	out := *c
	*c = nil
	return out
}

func TestOnlyWhatIsConfirmedIsForgotten(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		db := opened(t, d)
		box := must[*Inbox](t)(OpenInbox(t.Context(), db, d.dialect, "a", nil))
		const top = 1<<64 - 1 // an edition that is no int64
		for _, id := range []struct {
			inbox, stream string
			seq           int
			edition       uint64
		}{{"a", "s", 1, 7}, {"a", "s", 2, top}, {"a", "s", 3, top}, {"a", "s", 3, 7}, {"a", "s", 9, 7}, {"a", "other", 2, 7}, {"b", "s", 2, 7}} {
			do(t, db, d.dialect.sql(`INSERT INTO peermesh_inbox (inbox, stream, seq, edition) VALUES ($1, $2, $3, $4)`),
				id.inbox, id.stream, id.seq, int64(id.edition))
		}
		left := func(want int) {
			t.Helper()
			if n := number(db, `SELECT count(*) FROM peermesh_inbox`); n != want {
				t.Errorf("%d ids left, want %d", n, want)
			}
		}
		c := &confirmed{}
		if err := box.Handle(t.Context(), c, 1, nil); err != nil {
			t.Error(err)
		}
		left(7)
		*c = confirmed{{Stream: "s", Edition: top, From: 1, To: 5}}
		if err := box.Handle(t.Context(), c, 1, nil); err != nil {
			t.Error(err)
		}
		left(5)
		*c = confirmed{{Stream: "s", From: 0, To: 8}}
		if err := box.Handle(t.Context(), c, 1, nil); err != nil {
			t.Error(err)
		}
		left(3)
	})
}

func TestAnUnknownDialectIsRefused(t *testing.T) {
	if _, err := OpenInbox(t.Context(), nil, 0, "a", nil); err == nil {
		t.Error("inbox")
	}
	if _, err := OpenOutbox(t.Context(), nil, 99, "a", nil); err == nil {
		t.Error("outbox")
	}
}
