package patterns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"peermesh/internal/wire"
	"peermesh/socket"
)

var makers = map[wire.Kind]func(Env, ...Option) (closer, error){
	wire.Push: func(e Env, o ...Option) (closer, error) { return NewPush(e, "x", o...) },
	wire.Pull: func(e Env, o ...Option) (closer, error) { return NewPull(e, "x", o...) },
	wire.Pub:  func(e Env, o ...Option) (closer, error) { return NewPub(e, "x", o...) },
	wire.Sub:  func(e Env, o ...Option) (closer, error) { return NewSub(e, "x", o...) },
	wire.Req:  func(e Env, o ...Option) (closer, error) { return NewReq(e, "x", o...) },
	wire.Rep:  func(e Env, o ...Option) (closer, error) { return NewRep(e, "x", o...) },
}

// Each option on each kind of socket: honoured, which other tests show, or an error.
func TestAnOptionThatASocketCannotHonourIsAnError(t *testing.T) {
	const all = "push pull pub sub req rep"
	for name, c := range map[string]struct {
		option Option
		on     string
	}{
		"Durability(BestEffort)": {Durability(socket.BestEffort), "push pub"},
		"Durability(Memory)":     {Durability(socket.Memory), "push pub"},
		"Queue":                  {Queue(1, 1), "push pub req"},
		"OnOverflow(Block)":      {OnOverflow(Block), "push pub req"},
		"OnOverflow(Refuse)":     {OnOverflow(Refuse), "push pub req"},
		"OnOverflow(DropOldest)": {OnOverflow(DropOldest), "push pub"},
		"OnOverflow(DropNewest)": {OnOverflow(DropNewest), "push pub"},
		"Prefetch":               {Prefetch(1), "pull sub rep"},
		"PrefetchBytes":          {PrefetchBytes(1), "pull sub rep"},
		"MaxDeliver":             {MaxDeliver(1), "push pub"},
		"Backoff":                {Backoff(time.Second, time.Second), "push pub"},
		"HandlerTimeout":         {HandlerTimeout(1), "pull sub"},
		"Linger":                 {Linger(time.Millisecond), "push pub req"},
		"Concurrency":            {Concurrency(1), "rep"},
		"Executed(Once)":         {Executed(Once), "req"},
		"Executed(Idempotent)":   {Executed(Idempotent), "req"},
		"Topics":                 {Topics("a"), "sub"},
		"Prefixes":               {Prefixes("a"), "sub"},
		"OnSettled":              {OnSettled(func(Settled) {}), "push pub"},
		"OnGap":                  {OnGap(func(socket.Gap) {}), "pull sub"},
		"OnDone":                 {OnDone(func(*socket.Message) {}), "pull sub rep"},
		"OnNack":                 {OnNack(func(*socket.Message) {}), "pull sub"},
	} {
		for kind, make := range makers {
			s, err := make(newNode(t, 'a').env(), c.option)
			want := slices.Contains(strings.Fields(c.on), kind.String())
			if (err == nil) != want {
				t.Errorf("%s on %v: %v", name, kind, err)
			}
			if err == nil {
				s.Close()
			} else if !strings.Contains(err.Error(), kind.String()) || !strings.Contains(err.Error(), strings.Split(name, "(")[0]) {
				t.Errorf("%s on %v: the error says %q", name, kind, err)
			}
		}
	}
	for _, kind := range strings.Fields(all) {
		if !slices.ContainsFunc([]wire.Kind{wire.Push, wire.Pull, wire.Pub, wire.Sub, wire.Req, wire.Rep}, func(k wire.Kind) bool { return k.String() == kind }) {
			t.Errorf("kind %s has another name", kind)
		}
	}
}

func TestOptionsThatMakeNoSenseAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		kind wire.Kind
		opts []Option
		want error // nil: any
	}{
		"durable push":           {wire.Push, []Option{Durability(socket.Durable)}, socket.ErrNoDir},
		"unknown level":          {wire.Push, []Option{Durability(9)}, nil},
		"no level":               {wire.Push, []Option{Durability(0)}, nil},
		"durable channel":        {wire.Pub, []Option{Durability(socket.Durable)}, socket.ErrNoDir},
		"no durable name":        {wire.Sub, []Option{DurableName("")}, nil},
		"a bad durable name":     {wire.Sub, []Option{DurableName("a\x00b")}, nil},
		"exclusive and nameless": {wire.Sub, []Option{Exclusive()}, nil},
		"nameless in the past":   {wire.Sub, []Option{From(Earliest)}, nil},
		"unknown position":       {wire.Sub, []Option{DurableName("n"), From(-3)}, nil},
		"limit without bounds":   {wire.Pub, []Option{Limit(Limits{}, Block)}, nil},
		"limit in memory":        {wire.Pub, []Option{Limit(Limits{Count: 1}, Block)}, nil},
		"limit without a policy": {wire.Pub, []Option{Limit(Limits{Count: 1}, DropNewest)}, nil},
		"an age that blocks":     {wire.Pub, []Option{Limit(Limits{Age: 1}, Block)}, nil},
		"kept in memory":         {wire.Pub, []Option{Keep(1)}, nil},
		"less than nothing":      {wire.Pub, []Option{Keep(-1)}, nil},
		"unknown execution":      {wire.Req, []Option{Executed(9)}, nil},
		"queue without messages": {wire.Push, []Option{Queue(0, 1)}, nil},
		"queue without bytes":    {wire.Push, []Option{Queue(1, 0)}, nil},
		"unknown policy":         {wire.Push, []Option{OnOverflow(9)}, nil},
		"no policy":              {wire.Push, []Option{OnOverflow(0)}, nil},
		"no prefetch":            {wire.Pull, []Option{Prefetch(0)}, nil},
		"too much prefetch":      {wire.Pull, []Option{Prefetch(1<<16 + 1)}, nil},
		"no prefetch bytes":      {wire.Pull, []Option{PrefetchBytes(0)}, nil},
		"no delivery":            {wire.Push, []Option{MaxDeliver(0)}, nil},
		"too many deliveries":    {wire.Push, []Option{MaxDeliver(1001)}, nil},
		"back-off below a clock": {wire.Push, []Option{Backoff(time.Millisecond-1, time.Second)}, nil},
		"back-off that shrinks":  {wire.Push, []Option{Backoff(time.Second, time.Second-1)}, nil},
		"back-off over a day":    {wire.Pub, []Option{Backoff(time.Second, 24*time.Hour+1)}, nil},
		"lingering backwards":    {wire.Push, []Option{Linger(-1)}, nil},
		"lingering too long":     {wire.Req, []Option{Linger(100*time.Millisecond + 1)}, nil},
		"no time":                {wire.Pull, []Option{HandlerTimeout(0)}, nil},
		"nobody to serve":        {wire.Rep, []Option{Concurrency(0)}, nil},
		"too many to serve":      {wire.Rep, []Option{Concurrency(1<<16 + 1)}, nil},
		"bad topic":              {wire.Sub, []Option{Topics("a..b")}, nil},
		"bad prefix":             {wire.Sub, []Option{Prefixes(strings.Repeat("x", 256))}, nil},
		"too many topics":        {wire.Sub, []Option{Topics(many(wire.MaxPatterns)...), Prefixes("one more")}, nil},
	} {
		s, err := makers[c.kind](newNode(t, 'a').env(), c.opts...)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want an error (%v)", name, err, c.want)
		}
		if err == nil {
			s.Close()
		}
	}
}

func many(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("t", i))
	}
	return out
}

func TestASubscriptionMayHaveAsManyTopicsAsTravel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, rs, _ := channel(t, 1, nil, []Option{Topics(many(wire.MaxPatterns)...)})
		publish(t, p, fmt.Sprint("t", wire.MaxPatterns-1), "last")
		acked(t, rs[0], "last")
	})
}

func TestNamesAreHeldToTheRules(t *testing.T) {
	for kind, make := range map[wire.Kind]func(Env, string) (closer, error){
		wire.Push: func(e Env, n string) (closer, error) { return NewPush(e, n) },
		wire.Pull: func(e Env, n string) (closer, error) { return NewPull(e, n) },
		wire.Pub:  func(e Env, n string) (closer, error) { return NewPub(e, n) },
		wire.Sub:  func(e Env, n string) (closer, error) { return NewSub(e, n) },
		wire.Req:  func(e Env, n string) (closer, error) { return NewReq(e, n) },
		wire.Rep:  func(e Env, n string) (closer, error) { return NewRep(e, n) },
	} {
		for name, good := range map[string]bool{
			"x": true, "jobs/eu.1 ü": true, strings.Repeat("n", wire.MaxName): true,
			"": false, strings.Repeat("n", wire.MaxName+1): false, "a\xff": false, "a\x00b": false, "a\x1b[31m": false, "a\nb": false, "a\u009bb": false,
		} {
			s, err := make(newNode(t, 'a').env(), name)
			if (err == nil) != good {
				t.Errorf("%v %q: %v", kind, name, err)
			}
			if err == nil {
				s.Close()
			}
		}
	}
}

func TestOverflowPoliciesHaveNames(t *testing.T) {
	var names []string
	for o := Overflow(0); o <= Expel+1; o++ {
		names = append(names, o.String())
	}
	same(t, "names", names, "[default block refuse drop-oldest drop-newest expel overflow(6)]")
}

func TestTheDefaultsAreWhatTheyAreSaidToBe(t *testing.T) {
	for _, kind := range []wire.Kind{wire.Push, wire.Pub, wire.Req} {
		s, err := resolve(Env{}, kind, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := Block
		if kind == wire.Pub {
			want = DropOldest
		}
		what := kind.String() + ": "
		equal(t, what+"level", s.level, socket.Memory)
		equal(t, what+"messages", s.queue, 65536)
		equal(t, what+"bytes", s.queueBytes, 8<<20)
		equal(t, what+"policy", s.overflow, want)
		equal(t, what+"deliveries", s.maxDeliver, 10)
		equal(t, what+"first back-off", s.backoff, 100*time.Millisecond)
		equal(t, what+"longest back-off", s.maxBackoff, 30*time.Second)
		equal(t, what+"lease", s.lease, 10*time.Second)
		equal(t, what+"execution", s.execution, Once)
	}
	s, err := resolve(Env{}, wire.Rep, nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "requests at a time", s.concurrency, 64)
	equal(t, "handler timeout", s.timeout, 0)
}

func TestLedgersAddUp(t *testing.T) {
	a := Ledger{Carried: 1, Accepted: 9, Queued: 1, Leased: 2, Done: 3, Dead: 1, Expired: 1, Dropped: map[string]uint64{"x": 2}, Handed: 5}
	var sum Ledger
	sum.Add(a)
	sum.Add(a)
	sum.Add(Ledger{})
	same(t, "sum", sum, Ledger{Carried: 2, Accepted: 18, Queued: 2, Leased: 4, Done: 6, Dead: 2, Expired: 2, Dropped: map[string]uint64{"x": 4}, Handed: 10})
	if !sum.Balanced() || a.Dropped["x"] != 2 {
		t.Errorf("%+v is out of balance, or %+v was changed", sum, a)
	}
	sum.Done++
	if sum.Balanced() {
		t.Errorf("%+v is in balance", sum)
	}
}
