package sqlbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// killsEach is how often each process is killed: SQLBOX_KILLS, or a few times.
func killsEach(t *testing.T) int {
	t.Helper()
	text := os.Getenv("SQLBOX_KILLS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SQLBOX_KILLS=%q is no number of kills", text)
	}
	return n
}

// A shop writes orders, each with a message in its outbox, and changes its mind about some; its relay sends them; a
// warehouse takes them through its inbox. Both processes are killed at random moments, again and again, from the first
// milliseconds of their lives on. In the end what the warehouse has applied is what the shop has committed, once each.
func TestWhatAShopCommitsAWarehouseAppliesOnceWhateverIsKilled(t *testing.T) {
	each(t, func(t *testing.T, d database) {
		kills := killsEach(t)
		ownMesh(t)
		db := opened(t, d)
		do(t, db, `CREATE TABLE counter (made INTEGER NOT NULL, tries INTEGER NOT NULL)`)
		do(t, db, `INSERT INTO counter VALUES (0, 0)`)
		do(t, db, `CREATE TABLE applied (body TEXT NOT NULL)`)
		ctx := within(t, 2*time.Minute+time.Duration(kills)*3*time.Second)
		addr := freeAddr(t)
		dir := t.TempDir()
		begin := func(role string) *process {
			if role == "warehouse" {
				return startAt(t, role, d, filepath.Join(dir, role), "127.0.0.1:9", addr) // it is looked for
			}
			return start(t, role, d, filepath.Join(dir, "shop"), addr)
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		names := []string{"shop", "warehouse"}
		lives := []*process{begin(names[0]), begin(names[1])}
		for range kills {
			for _, i := range random.Perm(len(lives)) {
				life(t, ctx, time.Duration(random.Int64N(int64(800*time.Millisecond))))
				lives[i].kill()
				lives[i] = begin(names[i])
			}
		}
		between := number(db, `SELECT count(*) FROM applied`)
		lives[0].kill()
		lives[0] = begin("closed")
		made := number(db, `SELECT made FROM counter`)
		await(t, ctx, func() bool { return number(db, `SELECT count(*) FROM peermesh_outbox`) == 0 })
		await(t, ctx, func() bool { return number(db, `SELECT count(*) FROM applied`) >= made })
		for _, p := range lives {
			if err := p.end(); err != nil {
				t.Error(err)
			}
		}
		checkApplied(t, db, made)
		if n := number(db, `SELECT max(CAST(body AS INTEGER)) FROM applied`); n != made {
			t.Errorf("the last order that was applied is %d, want %d", n, made)
		}
		t.Logf("%d kills of each: %d orders made and applied, %d of them between kills", kills, made, between)
		if between < 2*kills {
			t.Errorf("%d orders applied between %d kills: this shows nothing", between, 2*kills)
		}
	})
}

// life waits for the end of a life.
func life(t *testing.T, ctx context.Context, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
}

// freeAddr is an address on loopback that nobody has.
func freeAddr(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return fmt.Sprint(c.LocalAddr())
}
