package discovery

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"syscall"
	"time"

	"github.com/hashicorp/mdns"
)

// lan is the local network as MDNS needs it. multicast is the real one; tests have their own.
type lan interface {
	// check says what would keep serve from hearing questions on i, wholly or over one version of IP.
	check(i Interface) error
	// serve answers questions on i from z until stop is called.
	serve(i Interface, z *zone) (stop func(), err error)
	// ask asks once on i and returns after askTime with what answered. It may return both replies and an
	// error. The end of ctx need not cut it short.
	ask(ctx context.Context, i Interface, f family) ([]reply, error)
}

// reply is one answer to a question: the name of a service instance and its TXT strings.
type reply struct {
	instance string
	txt      []string
}

const (
	askTime     = time.Second // how long answers are awaited; also how long the end of Run can take
	entryBuffer = 1024        // answers kept until the question ends; the library drops more without a word
)

// errOverflow is the trouble of a network with more answers than are kept.
var errOverflow = fmt.Errorf("more than %d answers to one question, some were dropped", entryBuffer)

// multicast is the lan of the mDNS library. What it does around the library follows from what the library does:
// it hides why a listener failed, returns from a question only when its time is over, and goes on writing
// to what it handed out until then.
type multicast struct {
	log *log.Logger // the library reports every odd packet; nothing of it is our fault
}

var (
	group4 = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	group6 = &net.UDPAddr{IP: net.ParseIP("ff02::fb"), Port: 5353}
)

// check listens as the library's server does and hangs up again.
func (multicast) check(i Interface) error {
	var errs joinedError
	for _, f := range i.families() {
		if err := tryListen(f, i.system()); err != nil {
			errs = append(errs, fmt.Errorf("listen over %s: %w", f, err))
		}
	}
	return errs.orNil()
}

// serve needs the interface to be named: without one the library silently drops IPv4.
func (m multicast) serve(i Interface, z *zone) (func(), error) {
	server, err := mdns.NewServer(&mdns.Config{Zone: z, Iface: i.system(), Logger: m.log})
	if err != nil {
		return nil, err
	}
	return func() { _ = server.Shutdown() }, nil // Shutdown only ever returns nil
}

// ask drains the entries after the question, not while it runs, when the library still writes to them.
func (m multicast) ask(ctx context.Context, i Interface, f family) ([]reply, error) {
	entries := make(chan *mdns.ServiceEntry, entryBuffer)
	err := mdns.QueryContext(ctx, &mdns.QueryParam{
		Service:     serviceType,
		Domain:      "local",
		Timeout:     askTime,
		Interface:   i.system(),
		Entries:     entries,
		DisableIPv4: f != ipv4,
		DisableIPv6: f != ipv6,
		Logger:      m.log,
	})
	if err != nil {
		return nil, fmt.Errorf("ask over %s: %w", f, whyNot(f, err))
	}
	close(entries)
	replies := make([]reply, 0, len(entries))
	for e := range entries {
		replies = append(replies, reply{instance: e.Name, txt: e.InfoFields})
	}
	if len(replies) == entryBuffer {
		return replies, errOverflow
	}
	return replies, nil
}

// whyNot finds the cause of a failed question. The library joins the group on whatever interface the
// routes choose, even when told which one to use, and does not tell why that failed; so do it again.
func whyNot(f family, err error) error {
	again := tryListen(f, nil)
	if errors.Is(again, syscall.ENODEV) {
		return fmt.Errorf("no default route and no route for multicast: %w", again)
	}
	if again != nil {
		return again
	}
	return plain(err)
}

// tryListen joins the mDNS group of f on ni, or where the routes say if ni is nil, and leaves it.
func tryListen(f family, ni *net.Interface) error {
	network, group := "udp4", group4
	if f == ipv6 {
		network, group = "udp6", group6
	}
	conn, err := net.ListenMulticastUDP(network, ni, group)
	if err != nil {
		return plain(err)
	}
	return conn.Close()
}

// plain takes the addresses out of a network error: they differ from try to try, and the same trouble must
// read the same each time.
func plain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

// system returns i as the net package has it.
func (i Interface) system() *net.Interface {
	return &net.Interface{Index: i.Index, Name: i.Name, Flags: i.Flags}
}
