package discovery

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The names that questions are about. They are compared without regard to case, as DNS wants it.
const (
	serviceType  = "_peermesh._udp"
	serviceName  = serviceType + ".local."
	instanceTail = "." + serviceName
	hostTail     = ".local."
	catalogName  = "_services._dns-sd._udp.local." // "which services are there?" (RFC 6763, section 9)
)

// recordTTL is how long others may keep our records, in seconds; the usual value of mDNS.
const recordTTL = 120

// zone answers questions about this node. It holds no records: each question is answered from the advert
// and the addresses of that moment. Whatever interface a question came in on, every server hears it; so
// all servers share one zone, which tells the addresses of all interfaces. The servers call it from their own
// goroutines, one of them at a time gets in.
type zone struct {
	advert     func() Advert
	interfaces func() ([]Interface, error) // those in use

	mu     sync.Mutex
	list   []Interface
	readAt time.Time
	closed bool
}

// addressAge is for how long the addresses of the interfaces are believed. It is short enough to call them
// current, and keeps somebody who floods us with questions from making us read them each time.
const addressAge = 250 * time.Millisecond

// Records implements the library's Zone.
func (z *zone) Records(q dns.Question) []dns.RR {
	name := strings.ToLower(q.Name)
	if name == catalogName {
		return catalog(q)
	}
	if !strings.HasSuffix(name, serviceName) && strings.Count(name, ".") != strings.Count(hostTail, ".") {
		return nil // most of what is asked on a network is not for us
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed {
		return nil
	}
	a := z.advert()
	if !a.speaks() {
		return nil
	}
	return answer(name, q.Qtype, a, a.groups(z.current()))
}

// close makes the zone fall silent. It waits for an answer that is being made; after it neither the advert
// nor the interfaces are asked for, although a goroutine of the library may still be on its way out.
func (z *zone) close() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.closed = true
}

// current returns the interfaces in use, read lately. When they cannot be read the last ones stand.
// z.mu must be held.
func (z *zone) current() []Interface {
	if now := time.Now(); now.Sub(z.readAt) >= addressAge {
		if list, err := z.interfaces(); len(list) > 0 || err == nil {
			z.list = list
		}
		z.readAt = now
	}
	return z.list
}

// catalog answers which kinds of services this host has.
func catalog(q dns.Question) []dns.RR {
	if q.Qtype != dns.TypePTR && q.Qtype != dns.TypeANY {
		return nil
	}
	return []dns.RR{&dns.PTR{Hdr: header(catalogName, dns.TypePTR), Ptr: serviceName}}
}

// answer returns the records of a node that fit a question; name is in lower case. A node without an
// address has no records, because the library drops an answer without one.
func answer(name string, qtype uint16, a Advert, groups [][]netip.Addr) []dns.RR {
	instance, host := a.Node+instanceTail, a.Node+hostTail
	addrs := addressRecords(host, groups)
	if len(addrs) == 0 {
		return nil
	}
	srv := &dns.SRV{Hdr: header(instance, dns.TypeSRV), Priority: 10, Weight: 1, Port: a.Port, Target: host}
	txt := &dns.TXT{Hdr: header(instance, dns.TypeTXT), Txt: encodeTXT(a, groups)}
	switch name {
	case serviceName:
		if qtype == dns.TypePTR || qtype == dns.TypeANY {
			ptr := &dns.PTR{Hdr: header(serviceName, dns.TypePTR), Ptr: instance}
			return append([]dns.RR{ptr, srv, txt}, addrs...)
		}
	case instance:
		switch qtype {
		case dns.TypeANY:
			return append([]dns.RR{srv, txt}, addrs...)
		case dns.TypeSRV:
			return append([]dns.RR{srv}, addrs...)
		case dns.TypeTXT:
			return []dns.RR{txt}
		}
	case host:
		return only(addrs, qtype)
	}
	return nil
}

// addressRecords returns an A and an AAAA record, each of the best address of its kind. More would be of
// no use: of several the library keeps the last, and the TXT record has them all.
func addressRecords(host string, groups [][]netip.Addr) []dns.RR {
	var best4, best6 netip.Addr
	for _, g := range groups {
		for _, addr := range g {
			best := &best6
			if addr.Is4() {
				best = &best4
			}
			if !best.IsValid() || best.IsLinkLocalUnicast() && !addr.IsLinkLocalUnicast() {
				*best = addr
			}
		}
	}
	var records []dns.RR
	if best4.IsValid() {
		records = append(records, &dns.A{Hdr: header(host, dns.TypeA), A: net.IP(best4.AsSlice())})
	}
	if best6.IsValid() {
		records = append(records, &dns.AAAA{Hdr: header(host, dns.TypeAAAA), AAAA: net.IP(best6.AsSlice())})
	}
	return records
}

// only returns the records of the type asked for.
func only(records []dns.RR, qtype uint16) []dns.RR {
	var fit []dns.RR
	for _, r := range records {
		if qtype == dns.TypeANY || qtype == r.Header().Rrtype {
			fit = append(fit, r)
		}
	}
	return fit
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: recordTTL}
}
