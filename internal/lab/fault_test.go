//go:build linux

package main

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func designed(t *testing.T, spec string) *Lab {
	t.Helper()
	l, err := design("pm", spec)
	if err != nil {
		t.Fatalf("design(%q): %v", spec, err)
	}
	return l
}

func TestDesignNumbersHostsAcrossSubnets(t *testing.T) {
	l := designed(t, "2,nat:1")
	if got, want := l.Subnets, []Subnet{{}, {NAT: true}}; !slices.Equal(got, want) {
		t.Errorf("subnets: got %v, want %v", got, want)
	}
	var got []string
	for _, h := range l.Hosts {
		got = append(got, h.Name+" "+h.ip4()+" "+h.ip6()+" "+h.linkLocal()+" "+h.mac())
	}
	want := []string{
		"h1 10.77.1.1 fd77::1:1 fe80::77:ff:fe00:101 02:77:00:00:01:01",
		"h2 10.77.1.2 fd77::1:2 fe80::77:ff:fe00:102 02:77:00:00:01:02",
		"h3 10.77.2.3 fd77::2:3 fe80::77:ff:fe00:203 02:77:00:00:02:03",
	}
	if !slices.Equal(got, want) {
		t.Errorf("hosts:\n got %q\nwant %q", got, want)
	}
}

func TestDesignRefusesWhatCannotBeBuilt(t *testing.T) {
	for _, spec := range []string{"", "0", "-1", "x", "nat:2", "2,nat:", "121", "60,61", "1,1,1,1,1,1,1,1,1,1", "99999999999999999999"} {
		if l, err := design("pm", spec); err == nil {
			t.Errorf("design(%q) = %d hosts, want an error", spec, len(l.Hosts))
		}
	}
}

func TestOwnNamespacesAreOnlyTheLabs(t *testing.T) {
	list := "pm-h1 (id: 3)\npm-router\npm-sw (id: 0)\npm-h\npm-h0\npm-hx\npm-other\npm2-h1\nxpm-h1\n\n"
	got := ownNamespaces("pm", list)
	if want := []string{"pm-h1", "pm-router", "pm-sw"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNamesAreShortAndPlain(t *testing.T) {
	for name, want := range map[string]bool{"pm": true, "Lab12345": true, "": false, "toolong99": false, "a-b": false, "a/b": false, "ä": false} {
		if got := validName(name); got != want {
			t.Errorf("validName(%q) = %v, want %v", name, got, want)
		}
	}
}

// edit runs commands such as "impair h1 h2 --loss 5%" on the links alone.
func edit(t *testing.T, l *Lab, commands ...string) {
	t.Helper()
	for _, c := range commands {
		words := strings.Fields(c)
		if err := l.editLinks(words[0], words[1:]); err != nil {
			t.Fatalf("%s: %v", c, err)
		}
	}
}

func TestFaultCommandsEditLinks(t *testing.T) {
	loss := func(share float64) string { return Spec{Loss: share}.String() }
	for name, tc := range map[string]struct {
		commands []string
		want     map[string]string
	}{
		"both ways":          {[]string{"partition h1 h2"}, map[string]string{"h1>h2": "cut", "h2>h1": "cut"}},
		"one way":            {[]string{"partition h1 h2 --oneway"}, map[string]string{"h1>h2": "cut"}},
		"a list":             {[]string{"partition h1 h2,h3 --oneway"}, map[string]string{"h1>h2": "cut", "h1>h3": "cut"}},
		"all to one":         {[]string{"partition all h3"}, map[string]string{"all>h3": "cut", "h3>all": "cut"}},
		"everybody once":     {[]string{"impair all all --loss 5%"}, map[string]string{"h1>all": loss(0.05), "h2>all": loss(0.05), "h3>all": loss(0.05)}},
		"the router":         {[]string{"partition h1 router --oneway"}, map[string]string{"h1>router": "cut"}},
		"heal one":           {[]string{"partition h1 h2,h3 --oneway", "heal h1 h2"}, map[string]string{"h1>h3": "cut"}},
		"heal all":           {[]string{"partition h1 h2,h3", "heal"}, map[string]string{}},
		"heal keeps impair":  {[]string{"impair h1 h2 --loss 1 --oneway", "partition h1 h2 --oneway", "heal"}, map[string]string{"h1>h2": loss(0.01)}},
		"clear keeps cut":    {[]string{"impair h1 h2 --loss 1 --oneway", "partition h1 h2 --oneway", "impair clear"}, map[string]string{"h1>h2": "cut"}},
		"impair replaces":    {[]string{"impair h1 h2 --dup 2% --oneway", "impair h1 h2 --loss 5% --oneway"}, map[string]string{"h1>h2": loss(0.05)}},
		"impair with zeroes": {[]string{"impair h1 h2 --loss 0 --delay 0"}, map[string]string{}},
		"clear one":          {[]string{"impair h1 h2,h3 --loss 5% --oneway", "impair h1 h2 clear"}, map[string]string{"h1>h3": loss(0.05)}},
	} {
		t.Run(name, func(t *testing.T) {
			l := designed(t, "3")
			edit(t, l, tc.commands...)
			if _, err := l.rules(); err != nil { // forgets the links without faults
				t.Fatal(err)
			}
			got := map[string]string{}
			for key, link := range l.Links {
				got[key] = link.String()
			}
			if !maps.Equal(got, tc.want) {
				t.Errorf("%q: got %v, want %v", tc.commands, got, tc.want)
			}
		})
	}
}

func TestImpairFlagsFillTheSpec(t *testing.T) {
	l := designed(t, "2")
	edit(t, l, "impair h1 h2 --oneway --loss 5% --dup 1 --reorder 2.5% --corrupt 100% --delay 20ms --jitter 5ms --rate 1.5Mbit --mtu 1300 --seed 7")
	want := Spec{Loss: 0.05, Dup: 0.01, Reorder: 0.025, Corrupt: 1, Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond,
		Rate: 1_500_000, Queue: 100 * time.Millisecond, MTU: 1300, Seed: 7}
	if got := l.Links["h1>h2"].Spec; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFaultCommandsRefuseNonsense(t *testing.T) {
	for _, c := range []string{
		"partition h1", "partition h1 h1", "partition h1 h9", "partition h0 h1", "partition h1 h2 h3", "partition h1 h2 --loss 5%",
		"partition all router", "partition router all", "heal h1", "impair h1", "impair h1 h2 clear now",
		"impair h1 h2 --loss 101%", "impair h1 h2 --loss -1", "impair h1 h2 --loss NaN", "impair h1 h2 --delay 5", "impair h1 h2 --delay -5ms",
		"impair h1 h2 --jitter 2562047h", "impair h1 h2 --rate 0", "impair h1 h2 --rate inf", "impair h1 h2 --rate 0.5", "impair h1 h2 --rate 9999gbit",
		"impair h1 h2 --rate mbit", "impair h1 h2 --queue 5ms", "impair h1 h2 --mtu 70000", "impair h1 h2 --mtu -1", "impair h1 h2 --nonsense",
	} {
		l := designed(t, "3")
		words := strings.Fields(c)
		if err := l.editLinks(words[0], words[1:]); err == nil {
			t.Errorf("%s: accepted as %v", c, l.Links)
		}
	}
}

func TestRulesStandWhereTheFaultCanBeSeen(t *testing.T) {
	// h1 h2 in subnet 1, h3 in 2, h4 behind NAT in 3.
	for name, tc := range map[string]struct {
		from, to, at string
		want         Rule
	}{
		"in one subnet":       {"h1", "h2", "h2", Rule{MAC: "02:77:00:00:01:01"}},
		"across the router":   {"h1", "h3", "h1", Rule{Out: true, IPs: []string{"10.77.2.3", "fd77::2:3"}}},
		"into NAT":            {"h1", "h4", "h4", Rule{IPs: []string{"10.77.1.1", "fd77::1:1"}}},
		"out of NAT":          {"h4", "h1", "h4", Rule{Out: true, IPs: []string{"10.77.1.1", "fd77::1:1"}}},
		"to the router":       {"h3", "router", "h3", Rule{Out: true, MAC: "02:77:00:00:02:fe"}},
		"from the router":     {"router", "h3", "h3", Rule{MAC: "02:77:00:00:02:fe"}},
		"everything sent":     {"h1", "all", "h1", Rule{Out: true}},
		"everything received": {"all", "h1", "h1", Rule{}},
	} {
		t.Run(name, func(t *testing.T) {
			l := designed(t, "2,1,nat:1")
			l.linkTo(tc.from, tc.to).Cut = true
			tc.want.Key, tc.want.Cut = tc.from+">"+tc.to, true
			got, err := l.rules()
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string][]Rule{tc.at: {tc.want}}; !reflect.DeepEqual(got, want) {
				t.Errorf("%s to %s: got %+v, want %+v", tc.from, tc.to, got, want)
			}
		})
	}
}

func TestRulesForOnePeerComeBeforeThoseForAll(t *testing.T) {
	l := designed(t, "3")
	for _, from := range []string{"all", "h2", "h3"} {
		l.linkTo(from, "h1").Cut = true
	}
	rules, err := l.rules()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rules["h1"] {
		got = append(got, r.Key)
	}
	if want := []string{"h2>h1", "h3>h1", "all>h1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
