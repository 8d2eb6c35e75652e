package discovery

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// testNode returns the id of the nth test node.
func testNode(n byte) string {
	return nodeEncoding.EncodeToString([]byte{n, 15: n})
}

// addrs parses addresses.
func addrs(texts ...string) []netip.Addr {
	list := make([]netip.Addr, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParseAddr(text)
	}
	return list
}

func testAdvert() Advert {
	return Advert{Node: testNode(1), Mesh: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, Port: 4477, Incarnation: 12, Nonce: [4]byte{9, 8, 7, 6}}
}

func TestTXTSaysWhatTheDesignSays(t *testing.T) {
	got := encodeTXT(testAdvert(), [][]netip.Addr{addrs("10.0.0.7", "fe80::7"), addrs("172.17.0.1")})
	want := []string{
		"v=1", "id=aeaaaaaaaaaaaaaaaaaaaaaaae", "m=0102030405060708", "p=4477", "e=12", "n=09080706",
		"a0=10.0.0.7,fe80::7", "a1=172.17.0.1",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func TestTXTSurvivesTheRoundTrip(t *testing.T) {
	for _, groups := range [][][]netip.Addr{
		{addrs("10.0.0.7")},
		{addrs("fe80::7"), addrs("127.0.0.1", "169.254.3.4")},
		worstGroups(),
	} {
		a := testAdvert()
		a.Incarnation = math.MaxUint64
		got, err := parseTXT(encodeTXT(a, groups))
		if want := (listing{version: 1, advert: a, groups: groups}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
}

// worstGroups returns the longest addresses in the most strings that fit.
func worstGroups() [][]netip.Addr {
	var list [][]netip.Addr
	for i := range 2 * maxAddrs {
		g := make([]netip.Addr, 2*groupAddrs)
		for j := range g {
			g[j] = netip.MustParseAddr(fmt.Sprintf("fd11:1111:2222:3333:4444:5555:66%02x:77%02x", i+16, j+16))
		}
		list = append(list, g)
	}
	return boundGroups(list)
}

func TestTheLongestAnswerStaysWithinItsBound(t *testing.T) {
	single := make([][]netip.Addr, maxAddrs) // as many strings as can be
	for i := range single {
		single[i] = worstGroups()[0][:1]
	}
	for _, groups := range [][][]netip.Addr{worstGroups(), single} {
		a := testAdvert()
		a.Port, a.Incarnation = math.MaxUint16, math.MaxUint64
		groups[len(groups)-1][0] = netip.MustParseAddr("255.255.255.254")
		records := answer(serviceName, dns.TypePTR, a, groups)
		for _, r := range records {
			if txt, ok := r.(*dns.TXT); ok {
				for _, s := range txt.Txt {
					if len(s) > maxString {
						t.Errorf("string of %d bytes: %q", len(s), s)
					}
				}
			}
		}
		packed, err := (&dns.Msg{Compress: true, Answer: records}).Pack()
		if err != nil || len(packed) > maxAnswer {
			t.Errorf("answer of %d bytes, %v; want at most %d", len(packed), err, maxAnswer)
		}
	}
}

// edited returns a good TXT record with the string of one key replaced; "" removes it.
func edited(key, replacement string) []string {
	var txt []string
	for _, s := range encodeTXT(testAdvert(), [][]netip.Addr{addrs("10.0.0.7")}) {
		switch {
		case !strings.HasPrefix(s, key+"="):
			txt = append(txt, s)
		case replacement != "":
			txt = append(txt, replacement)
		}
	}
	return txt
}

func TestMalformedTXTIsRefused(t *testing.T) {
	id := testNode(1)
	cases := map[string][]string{
		"nothing":              nil,
		"too many strings":     slices.Repeat([]string{"x"}, maxStrings+1),
		"giant string":         append(edited("", ""), "x="+strings.Repeat("y", maxString)),
		"no version":           edited("v", ""),
		"no id":                edited("id", ""),
		"no mesh":              edited("m", ""),
		"no port":              edited("p", ""),
		"no incarnation":       edited("e", ""),
		"no nonce":             edited("n", ""),
		"no address":           edited("a0", ""),
		"version 0":            edited("v", "v=0"),
		"version word":         edited("v", "v=one"),
		"empty id":             edited("id", "id="),
		"short id":             edited("id", "id="+id[1:]),
		"long id":              edited("id", "id="+id+"a"),
		"upper-case id":        edited("id", "id="+strings.ToUpper(id)),
		"id not base32":        edited("id", "id=1"+id[1:]),
		"id with stray bits":   edited("id", "id="+id[:25]+"b"),
		"id with NUL":          edited("id", "id=\x00"+id[1:]),
		"id with escaped NUL":  edited("id", `id=\000`+id[4:]),
		"id with line break":   edited("id", "id="+id[:25]+"\n"),
		"short mesh":           edited("m", "m=01020304050607"),
		"long mesh":            edited("m", "m=010203040506070809"),
		"mesh not hex":         edited("m", "m=010203040506070x"),
		"port 0":               edited("p", "p=0"),
		"port too high":        edited("p", "p=65536"),
		"negative port":        edited("p", "p=-1"),
		"incarnation too high": edited("e", "e=18446744073709551616"),
		"long nonce":           edited("n", "n=0908070605"),
		"empty address":        edited("a0", "a0="),
		"address without =":    edited("a0", "a0"),
		"host name":            edited("a0", "a0=localhost"),
		"address with zone":    edited("a0", "a0=fe80::1%eth0"),
		"mapped address":       edited("a0", "a0=::ffff:10.0.0.7"),
		"unspecified address":  edited("a0", "a0=0.0.0.0"),
		"multicast address":    edited("a0", "a0=224.0.0.251"),
		"broadcast address":    edited("a0", "a0=255.255.255.255"),
		"too many addresses":   edited("a0", "a0="+strings.Repeat("1.1.1.1,", maxAddrs)+"1.1.1.1"),
		"trailing comma":       edited("a0", "a0=10.0.0.7,"),
	}
	for name, txt := range cases {
		if l, err := parseTXT(txt); err == nil {
			t.Errorf("%s: %q was taken for %+v", name, txt, l)
		}
	}
}

func TestTXTOfANewerVersionIsRead(t *testing.T) {
	txt := append(edited("v", "v=2"), "zz=new", "app=chess", "flag", "", "p=1")
	l, err := parseTXT(txt)
	if err != nil {
		t.Fatal(err)
	}
	if l.version != 2 || !reflect.DeepEqual(l.advert, testAdvert()) || len(l.groups) != 1 {
		t.Errorf("got %+v; the first p counts and unknown keys do not", l)
	}
}

func FuzzParseTXT(f *testing.F) {
	f.Add(strings.Join(encodeTXT(testAdvert(), [][]netip.Addr{addrs("10.0.0.7", "fe80::7")}), "\n"))
	f.Add("v=1\nid=\\000\np=70000")
	f.Fuzz(func(t *testing.T, record string) {
		l, err := parseTXT(strings.Split(record, "\n"))
		if err != nil {
			return
		}
		count := 0
		for _, g := range l.groups {
			count += len(g)
		}
		if count == 0 || count > maxAddrs || !l.advert.speaks() {
			t.Fatalf("took %q for %+v", record, l)
		}
		again, err := parseTXT(encodeTXT(l.advert, l.groups))
		again.version = l.version
		if err != nil || !reflect.DeepEqual(again, l) {
			t.Fatalf("%q\nread     %+v\nre-read  %+v, %v", record, l, again, err)
		}
	})
}
