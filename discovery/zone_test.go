package discovery

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"
)

// types returns the record types in order, as a word.
func types(records []dns.RR) string {
	s := ""
	for _, r := range records {
		s += dns.TypeToString[r.Header().Rrtype] + " "
	}
	return s
}

func TestZoneAnswersWhatItIsAsked(t *testing.T) {
	id := testNode(1)
	z := &zone{advert: testAdvert, interfaces: func() ([]Interface, error) { return []Interface{eth0("10.0.0.7/24", "fd00::7/64")}, nil }}
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"_peermesh._udp.local.", dns.TypePTR, "PTR SRV TXT A AAAA "},
		{"_peermesh._udp.local.", dns.TypeANY, "PTR SRV TXT A AAAA "},
		{"_PeerMesh._UDP.Local.", dns.TypePTR, "PTR SRV TXT A AAAA "},
		{"_peermesh._udp.local.", dns.TypeSRV, ""},
		{id + "._peermesh._udp.local.", dns.TypeANY, "SRV TXT A AAAA "},
		{id + "._peermesh._udp.local.", dns.TypeSRV, "SRV A AAAA "},
		{id + "._peermesh._udp.local.", dns.TypeTXT, "TXT "},
		{id + "._peermesh._udp.local.", dns.TypeA, ""},
		{id + ".local.", dns.TypeA, "A "},
		{id + ".local.", dns.TypeAAAA, "AAAA "},
		{id + ".local.", dns.TypeANY, "A AAAA "},
		{"_services._dns-sd._udp.local.", dns.TypePTR, "PTR "},
		{"_services._dns-sd._udp.local.", dns.TypeA, ""},
		{testNode(2) + ".local.", dns.TypeA, ""},
		{testNode(2) + "._peermesh._udp.local.", dns.TypeANY, ""},
		{"_http._tcp.local.", dns.TypePTR, ""},
		{"x_peermesh._udp.local.", dns.TypePTR, ""},
		{"", dns.TypeANY, ""},
	} {
		got := types(z.Records(dns.Question{Name: c.name, Qtype: c.qtype, Qclass: dns.ClassINET}))
		if got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.name, dns.TypeToString[c.qtype], got, c.want)
		}
	}
}

func TestZoneIsSilentWithoutSomethingToSay(t *testing.T) {
	good := []Interface{eth0("10.0.0.7/24")}
	for name, c := range map[string]struct {
		edit   func(*Advert)
		ifaces []Interface
	}{
		"no node":       {func(a *Advert) { a.Node = "" }, good},
		"bad node":      {func(a *Advert) { a.Node = "resizer-1" }, good},
		"no port":       {func(a *Advert) { a.Port = 0 }, good},
		"no address":    {func(*Advert) {}, nil},
		"bad addresses": {func(a *Advert) { a.Addrs = addrs("0.0.0.0", "ff02::1") }, good},
	} {
		a := testAdvert()
		c.edit(&a)
		z := &zone{advert: func() Advert { return a }, interfaces: func() ([]Interface, error) { return c.ifaces, nil }}
		if got := askZone(z); got != nil {
			t.Errorf("%s: answered %v", name, got)
		}
	}
}

func TestZoneDoesNotCallBackOnceClosed(t *testing.T) {
	z := &zone{advert: func() Advert { t.Error("asked for the advert"); return Advert{} }}
	z.close()
	if got := askZone(z); got != nil {
		t.Errorf("answered %v", got)
	}
}

// askZone asks for the service.
func askZone(z *zone) []dns.RR {
	return z.Records(dns.Question{Name: serviceName, Qtype: dns.TypePTR, Qclass: dns.ClassINET})
}

// listingOf reads the TXT record of an answer.
func listingOf(t *testing.T, records []dns.RR) listing {
	t.Helper()
	for _, r := range records {
		if txt, ok := r.(*dns.TXT); ok {
			l, err := parseTXT(txt.Txt)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
	}
	t.Fatalf("no TXT record in %v", records)
	return listing{}
}

func TestZoneTellsTheAddressesOfTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			ifaces = []Interface{eth0("10.0.0.7/24")}
			fail   error
			reads  int
		)
		z := &zone{advert: testAdvert, interfaces: func() ([]Interface, error) { reads++; return ifaces, fail }}
		check := func(want string) {
			t.Helper()
			if got := listingOf(t, askZone(z)).groups[0][0].String(); got != want {
				t.Errorf("told %s, want %s", got, want)
			}
		}
		check("10.0.0.7")
		for range 100 {
			askZone(z)
		}
		if reads != 1 {
			t.Errorf("a flood of questions made %d reads of the interfaces, want 1", reads)
		}
		ifaces = []Interface{eth0("10.0.0.8/24")}
		advance(addressAge)
		check("10.0.0.8")
		ifaces, fail = nil, errors.New("netlink is busy")
		advance(addressAge)
		check("10.0.0.8")
	})
}

func TestAdvertAddressesWinOverThoseOfTheInterfaces(t *testing.T) {
	a := testAdvert()
	a.Addrs = addrs("203.0.113.9", "::ffff:203.0.113.9", "fe80::1%eth7", "ff02::1")
	got := a.groups([]Interface{eth0("10.0.0.7/24")})
	if want := [][]netip.Addr{addrs("203.0.113.9", "fe80::1")}; !equalGroups(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTheAddressRecordIsTheBestOfItsKind(t *testing.T) {
	records := addressRecords("h.local.", [][]netip.Addr{addrs("169.254.0.1", "fe80::1"), addrs("10.0.0.7", "fd00::7"), addrs("10.9.9.9")})
	if a := records[0].(*dns.A); a.A.String() != "10.0.0.7" {
		t.Errorf("A is %s", a.A)
	}
	if aaaa := records[1].(*dns.AAAA); aaaa.AAAA.String() != "fd00::7" {
		t.Errorf("AAAA is %s", aaaa.AAAA)
	}
}
