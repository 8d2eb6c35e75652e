package ledger

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A walk through a world with everything that may go wrong at a receiver or on the
// way to it, in real time: RENEWs go out every two seconds of it, or do not.
func TestNothingIsLostOrDoubledOnAnyWalk(t *testing.T) {
	modes := map[string]Mode{
		"push":       {Backoff: time.Second, MaxBackoff: 8 * time.Second},
		"push dlq":   {Backoff: time.Second, MaxBackoff: 8 * time.Second, MaxDeliver: 3},
		"idempotent": {Requests: true},
		"once":       {Requests: true, AtMostOnce: true},
	}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { walk(t, mode, false) })
		})
	}
}

// The same with disks, which all may crash over and some are lost.
func TestNothingOnDiskIsLostOrDoubledOnAnyWalk(t *testing.T) {
	modes := map[string]Mode{
		"push":       {Backoff: time.Second, MaxBackoff: 8 * time.Second},
		"push dlq":   {Backoff: time.Second, MaxBackoff: 8 * time.Second, MaxDeliver: 3},
		"idempotent": {Requests: true},
		"once":       {Requests: true, AtMostOnce: true},
	}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			for range []int{always: 1, normally: 5, atLength: 100}[size()] { // of 100 walks
				rapid.Check(t, func(t *rapid.T) { walk(t, mode, true) })
			}
		})
	}
}

func walk(t *rapid.T, mode Mode, disks bool) {
	w := newWorld(mode, rapid.IntRange(2, 3).Draw(t, "receivers"), ablation{}, disks)
	for _, r := range w.nodes {
		r.window = 3
		w.dial(r)
	}
	w.deliver()
	check := func(t *rapid.T) {
		if s := problem(w.l); s != "" {
			t.Fatal(s)
		}
		if w.wrong != "" {
			t.Fatal(w.wrong)
		}
		for _, r := range w.nodes {
			if n := uint64(len(r.queue) + len(r.running)); n > r.window {
				t.Fatalf("%s has %d messages in hand, its window is %d", r.con.Who.Label, n, r.window)
			}
		}
	}
	actions := map[string]func(*rapid.T){"": check}
	for name, often := range progress(w) {
		for i := range 3 {
			actions[fmt.Sprint(name, " ", i)] = often
		}
	}
	maps.Copy(actions, troubles(w))
	if disks {
		maps.Copy(actions, diskWork(w))
	}
	for range 8 { // many times the usual number of steps: a message needs ten to be done with
		t.Repeat(actions)
	}
	w.heal()
	check(t)
}

// progress is what happens when nothing is wrong.
func progress(w *world) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"put": func(t *rapid.T) {
			key, ttl := "", time.Duration(0)
			if !w.mode.Requests {
				key = rapid.SampledFrom([]string{"", "", "k", "l"}).Draw(t, "key")
			}
			if w.mode.Requests || seldom(t, 4) {
				ttl = time.Duration(rapid.IntRange(1, 40).Draw(t, "TTL")) * time.Second
			}
			delay := time.Duration(0)
			if !w.mode.Requests && seldom(t, 3) {
				delay = time.Duration(rapid.IntRange(1, 20).Draw(t, "delay")) * time.Second
			}
			w.put(key, ttl, delay)
		},
		"write": func(t *rapid.T) {
			r := draw(t, w, func(r *receiver) bool { return r.pipe() != nil })
			w.l.Dispatch(func(*Consumer) {})
			w.write(r, rapid.IntRange(0, 100).Draw(t, "bytes"))
		},
		"read": func(t *rapid.T) {
			r, k := drawLink(t, w, readable)
			w.read(r, k)
		},
		"read all": func(t *rapid.T) {
			for r, k := drawLink(t, w, readable); readable(r, k); {
				w.read(r, k)
			}
		},
		"hear": func(t *rapid.T) {
			r, k := drawLink(t, w, audible)
			w.hear(r, k)
		},
		"hear all": func(t *rapid.T) {
			for r, k := drawLink(t, w, audible); audible(r, k); {
				w.hear(r, k)
			}
		},
		"start": func(t *rapid.T) {
			w.start(draw(t, w, func(r *receiver) bool { return len(r.queue) > 0 }))
		},
		"finish": func(t *rapid.T) {
			r := draw(t, w, running)
			w.finish(r, rapid.IntRange(0, len(r.running)-1).Draw(t, "which"))
		},
		"resume": func(t *rapid.T) {
			w.l.Resume(draw(t, w, func(r *receiver) bool { return r.con != nil && r.con.paused }).con)
		},
		"renew": func(t *rapid.T) {
			w.renew(draw(t, w, func(r *receiver) bool { return r.cur != nil }))
		},
		"notice, or dial": func(t *rapid.T) {
			r := draw(t, w, func(r *receiver) bool {
				return !slices.ContainsFunc(r.links, func(k *link) bool { return k.open && (k.there || len(k.up) > 0) })
			})
			for _, k := range r.links {
				if k.open {
					w.notice(r, k)
					return
				}
			}
			w.dial(r)
		},
	}
}

// diskWork is what disks do, and what is done to them.
func diskWork(w *world) map[string]func(*rapid.T) {
	write := func(*rapid.T) { w.beginSync(w.l.WantsMark()) }
	sync := func(*rapid.T) { w.sync() }
	save := func(t *rapid.T) {
		w.save(draw(t, w, func(r *receiver) bool { return len(r.acked) > 0 }))
	}
	return map[string]func(*rapid.T){
		"write the store 0": write, "write the store 1": write, "write the store 2": write,
		"sync 0": sync, "sync 1": sync, "sync 2": sync, "save 0": save, "save 1": save, "save 2": save,
		"crash": func(t *rapid.T) {
			if seldom(t, 3) {
				w.restartSender()
			}
		},
		"lose the last message": func(t *rapid.T) {
			if !w.hasTail() || !seldom(t, 2) {
				t.Skip("not now")
			}
			w.loseTail()
		},
		"lose the disk of a receiver": func(t *rapid.T) {
			if seldom(t, 3) {
				w.wipe(draw(t, w, everyone))
			}
		},
		"lose the disk of the sender": func(t *rapid.T) {
			if seldom(t, 20) {
				w.wipeSender()
			}
		},
	}
}

// troubles is everything else.
func troubles(w *world) map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"dispatch and not write": func(*rapid.T) { w.l.Dispatch(func(*Consumer) {}) },
		"pause": func(t *rapid.T) {
			w.l.Pause(draw(t, w, func(r *receiver) bool { return r.con != nil && r.con.attached && !r.con.paused }).con)
		},
		"dial once more": func(t *rapid.T) {
			w.dial(draw(t, w, func(r *receiver) bool { return len(r.links) < 3 }))
		},
		"give up a stale pipe": func(t *rapid.T) {
			w.abort(draw(t, w, func(r *receiver) bool { return r.con.Stale() }))
		},
		"cut": func(t *rapid.T) {
			r, k := drawLink(t, w, func(*receiver, *link) bool { return true })
			w.cut(r, k)
		},
		"refuse": func(t *rapid.T) {
			r := draw(t, w, func(r *receiver) bool { return running(r) && !w.mode.Requests })
			w.refuse(r, rapid.IntRange(0, len(r.running)-1).Draw(t, "which"))
		},
		"two seconds pass": func(*rapid.T) {
			w.now = w.now.Add(2 * time.Second)
			w.tick()
		},
		"six seconds pass": func(*rapid.T) {
			w.now = w.now.Add(6 * time.Second)
			w.tick()
		},
		"the sender's clock is late":    func(*rapid.T) { w.now = w.now.Add(time.Second) },
		"a receiver looks at its clock": func(t *rapid.T) { w.giveBackAll(draw(t, w, w.lapsed)) },
		"restart": func(t *rapid.T) {
			if seldom(t, 2) {
				w.restart(draw(t, w, everyone))
			}
		},
		"reopen": func(t *rapid.T) {
			if seldom(t, 2) {
				w.reopen(draw(t, w, everyone))
			}
		},
		"leave": func(t *rapid.T) {
			w.leave(draw(t, w, func(r *receiver) bool { return !r.gone }))
		},
		"come back": func(t *rapid.T) {
			w.reopen(draw(t, w, func(r *receiver) bool { return r.gone }))
		},
		"restart the sender": func(t *rapid.T) {
			if w.store == nil && w.life < 4 && seldom(t, 5) {
				w.restartSender()
			}
		},
		"cancel": func(t *rapid.T) {
			if w.nextSeq > 1 && seldom(t, 2) {
				w.l.Cancel(rapid.Uint64Range(1, w.nextSeq-1).Draw(t, "seq"))
			}
		},
		"drop the oldest": func(t *rapid.T) {
			if seldom(t, 3) {
				w.l.DropOldest(ReasonOverflow)
			}
		},
	}
}

func everyone(*receiver) bool            { return true }
func running(r *receiver) bool           { return len(r.running) > 0 }
func readable(_ *receiver, k *link) bool { return k.there && len(k.down) > 0 }
func audible(_ *receiver, k *link) bool  { return len(k.up) > 0 }

// seldom is true once in n times.
func seldom(t *rapid.T, n int) bool { return rapid.IntRange(1, n).Draw(t, "seldom") == n }

// draw picks one of the receivers that fit; without any the step is another one.
func draw(t *rapid.T, w *world, fits func(*receiver) bool) *receiver {
	var rs []*receiver
	for _, r := range w.nodes {
		if fits(r) {
			rs = append(rs, r)
		}
	}
	if len(rs) == 0 {
		t.Skip("nobody")
	}
	r := rs[rapid.IntRange(0, len(rs)-1).Draw(t, "which receiver")]
	t.Logf("%s%d", r.con.Who.Label, r.nonce)
	return r
}

func drawLink(t *rapid.T, w *world, fits func(*receiver, *link) bool) (*receiver, *link) {
	r := draw(t, w, func(r *receiver) bool {
		return slices.ContainsFunc(r.links, func(k *link) bool { return fits(r, k) })
	})
	ks := slices.DeleteFunc(slices.Clone(r.links), func(k *link) bool { return !fits(r, k) })
	k := ks[rapid.IntRange(0, len(ks)-1).Draw(t, "which link")]
	t.Logf("link %d", k.number)
	return r, k
}
