package insight

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what a check came to.
type Verdict string

// The verdicts. Only Fail makes a doctor's visit fail.
const (
	Fine Verdict = "ok"
	Warn Verdict = "warn" // it works, and less well than it could
	Fail Verdict = "fail"
	Skip Verdict = "skip" // not possible here, or nothing to look at
)

// Check is one line of the doctor.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Code    string  `json:"code,omitempty"` // one word for what is wrong
	Text    string  `json:"text"`           // what was measured
	Cure    string  `json:"cure,omitempty"`
}

// Good buffers hold what comes at 10 Gbit/s while the reader is away for some milliseconds; the size is what QUIC asks
// the kernel for.
const (
	WantedBuffer = 7 << 20
	leastBuffer  = 64 << 10
)

// CheckBuffers judges what a UDP socket got of the buffers that were asked for.
func CheckBuffers(asked, receive, send int) Check {
	c := Check{Name: "buffers", Verdict: Fine, Text: fmt.Sprintf("receive %s, send %s", size(int64(receive)), size(int64(send)))}
	if receive >= asked && send >= asked {
		return c
	}
	c.Verdict, c.Code = Warn, "buffers"
	c.Text += fmt.Sprintf(", of %s asked for: fast senders lose packets", size(int64(asked)))
	if receive < leastBuffer || send < leastBuffer {
		c.Verdict = Fail
	}
	c.Cure = fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d, and the same in /etc/sysctl.d", asked, asked)
	return c
}

// Offload is what the kernel can do for UDP; an error says why not.
type Offload struct{ GSO, GRO, ECN error }

// CheckOffload judges it.
func CheckOffload(o Offload) Check {
	c := Check{Name: "offload", Verdict: Fine}
	var good, bad []string
	for _, f := range []struct {
		name string
		err  error
	}{{"GSO", o.GSO}, {"GRO", o.GRO}, {"ECN", o.ECN}} {
		if f.err == nil {
			good = append(good, f.name)
		} else {
			bad = append(bad, fmt.Sprintf("no %s (%v)", f.name, f.err))
		}
	}
	c.Text = strings.Join(append(good, bad...), ", ")
	if len(bad) > 0 {
		c.Verdict, c.Code = Warn, "offload"
		c.Cure = "nothing is lost without them but speed; a Linux kernel of 5.0 or newer has them all"
	}
	return c
}

// Reach is what came of probing an address.
type Reach struct {
	Addr    string
	Answer  bool  // something that speaks QUIC answered
	Closed  bool  // the host said that nobody listens there
	Err     error // the probe could not be sent
	RTT     time.Duration
	Largest int   // bytes of the largest IP packet that was answered
	Tried   []int // sizes tried
}

// Sizes of IP packets: the least that QUIC needs, and the most that it tries.
const (
	leastPacket = 1228
	goodPacket  = 1480
)

// CheckReach judges whether UDP gets through to an address.
func CheckReach(r Reach) Check {
	c := Check{Name: "udp " + r.Addr, Verdict: Fail}
	switch {
	case r.Err != nil:
		c.Code, c.Text = "unreachable", r.Err.Error()
		c.Cure = "look at the address, and at the routes of this host: ip route get"
	case r.Answer:
		c.Verdict, c.Text = Fine, fmt.Sprintf("a QUIC node answers, in %v", r.RTT.Round(10*time.Microsecond))
	case r.Closed:
		c.Code, c.Text = "down", "the host answers that nobody listens on that port: the node is down, or listens elsewhere"
		c.Cure = "start the node there, or correct the port: its ready event tells its address"
	default:
		c.Code, c.Text = "udp-blocked", "no answer: UDP is blocked on the way, or the host is down"
		c.Cure = "let UDP to that port through the firewalls of both hosts and between them; ping tells whether the host is up"
	}
	return c
}

// CheckMTU judges the largest packets that get through to an address that answers.
func CheckMTU(r Reach) Check {
	c := Check{Name: "mtu " + r.Addr, Verdict: Fine, Text: fmt.Sprintf("IP packets of %d bytes get through", r.Largest)}
	switch {
	case !r.Answer && r.Largest == 0:
		c.Verdict, c.Text = Skip, "not measured: nothing answers there"
	case r.Largest < leastPacket:
		c.Verdict, c.Code = Fail, "mtu"
		c.Text += fmt.Sprintf(", and QUIC needs %d", leastPacket)
		c.Cure = "raise the MTU of the tunnel or link on the way to 1280 at least: ip link set dev IF mtu 1280"
	case r.Largest < goodPacket:
		c.Verdict, c.Code = Warn, "mtu"
		c.Text += ", larger ones vanish: links work, with more packets than elsewhere"
		c.Cure = "if no tunnel is expected on the way, raise its MTU to 1500: ip link shows those of this host"
	}
	return c
}

// CheckMulticast judges whether multicast works on a network interface; err says why not.
func CheckMulticast(name string, err error) Check {
	c := Check{Name: "multicast " + name, Verdict: Fine, Text: "a question sent there was heard"}
	if err != nil {
		c.Verdict, c.Code, c.Text = Warn, CodeMulticast, err.Error()
		c.Cure = "nodes there do not find each other by themselves: name one with --peer HOST:PORT, or ip link set dev IF multicast on"
	}
	return c
}

// CheckNoMulticast is the line of a host without an interface that multicast could use.
func CheckNoMulticast() Check {
	return Check{Name: "multicast", Verdict: Warn, Code: CodeMulticast, Text: "no network interface is up that has an address and multicast",
		Cure: "name a node with --peer HOST:PORT, or bring a network up: ip link set dev IF up multicast on"}
}

// Clock is what the wall clock was held against.
type Clock struct {
	Now      time.Time
	Newest   time.Time // of what this host wrote earlier; zero: unknown
	Unsynced bool      // the kernel says that nothing keeps the clock right
	Peers    []Skew
}

// Skew is a peer's clock less this one's.
type Skew struct {
	Name string
	By   time.Duration
}

// How far clocks may be apart: certificates allow an hour.
const (
	warnSkew = 30 * time.Second
	failSkew = 30 * time.Minute
)

// written is a time before which no correct clock has run this program.
var written = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// CheckClock judges it.
func CheckClock(k Clock) Check {
	c := Check{Name: "clock", Verdict: Fine, Text: k.Now.UTC().Format(time.RFC3339), Cure: refusals[CodeClock].cure}
	slices.SortFunc(k.Peers, func(a, b Skew) int { return int(max(b.By, -b.By) - max(a.By, -a.By)) })
	switch {
	case k.Now.Before(written):
		c.Verdict, c.Code = Fail, CodeClock
		c.Text += ": the clock is set to the past"
	case len(k.Peers) > 0 && max(k.Peers[0].By, -k.Peers[0].By) > warnSkew:
		c.Verdict, c.Code = Warn, CodeClock
		if max(k.Peers[0].By, -k.Peers[0].By) > failSkew {
			c.Verdict = Fail
		}
		c.Text += fmt.Sprintf(": that of %s is %v from it; beyond an hour nodes refuse each other", k.Peers[0].Name, k.Peers[0].By.Round(time.Second))
	case k.Newest.After(k.Now.Add(failSkew)):
		c.Verdict, c.Code = Fail, CodeClock
		c.Text += fmt.Sprintf(": the state directory was written at %s, so the clock was set back", k.Newest.UTC().Format(time.RFC3339))
	case k.Unsynced:
		c.Verdict, c.Code = Warn, CodeClock
		c.Text += ": nothing keeps it right (no NTP)"
	default:
		c.Cure = ""
		if len(k.Peers) > 0 {
			c.Text += fmt.Sprintf(", within %v of %s", max(k.Peers[0].By, -k.Peers[0].By).Round(time.Millisecond), plural(len(k.Peers), "peer"))
		}
	}
	return c
}

// CheckCertificate judges the certificate that the node presents. err says why there is none.
func CheckCertificate(mesh string, notAfter, now time.Time, err error) Check {
	c := Check{Name: "certificate", Verdict: Fine}
	left := notAfter.Sub(now)
	switch {
	case err != nil:
		c.Verdict, c.Code, c.Text = Fail, "certificate", err.Error()
		c.Cure = "name the credential of the mesh with --mesh FILE; peermesh init makes one"
	case left <= 0:
		c.Verdict, c.Code, c.Text = Fail, "expired", fmt.Sprintf("of mesh %s: it ran out at %s", mesh, notAfter.UTC().Format(time.RFC3339))
		c.Cure = "restart the node with the mesh file, or on a machine that joined run: peermesh cert renew; if the date is right, set the clock"
	case left < 24*time.Hour:
		c.Verdict, c.Code, c.Text = Warn, "expired", fmt.Sprintf("of mesh %s: it runs out in %v", mesh, left.Round(time.Minute))
		c.Cure = "restart the node with the mesh file: it makes a new one; on a machine that joined run: peermesh cert renew"
	default:
		c.Text = fmt.Sprintf("of mesh %s, good for %d days", mesh, int(left/(24*time.Hour)))
	}
	return c
}

// CheckPeers has a line for each address that came to nothing, or one that says how many are linked.
func CheckPeers(s Sight) (out []Check) {
	for _, c := range s.Candidates {
		var a Answer
		if c.Code != "" && a.refused(c.Code, c.Verdict, c.Addr) {
			out = append(out, Check{Name: "peer " + c.Addr, Verdict: Fail, Code: a.Code, Text: a.Cause + ": " + c.Verdict, Cure: a.Cure})
		}
	}
	told := map[string]bool{}
	for _, e := range slices.Backward(s.Events) {
		var a Answer
		where := nameOr(e.Name, e.Addr)
		if e.State != "refused" || e.AgeMs > lately || told[where+e.Code] || slices.ContainsFunc(s.Candidates, func(c Candidate) bool { return c.Addr == e.Addr && c.Code != "" }) {
			continue
		}
		if told[where+e.Code] = true; a.refused(e.Code, e.Reason, where) {
			out = append(out, Check{Name: "peer " + where, Verdict: Fail, Code: a.Code, Text: a.Cause + ": " + e.Reason, Cure: a.Cure})
		}
	}
	if len(out) > 0 {
		return out
	}
	c := Check{Name: "peers", Verdict: Fine, Text: plural(len(s.Peers), "node") + " linked"}
	if len(s.Peers) == 0 {
		w := why{here: s, all: []Sight{s}}
		a := w.alone("nobody is linked")
		c.Verdict, c.Code, c.Text, c.Cure = Warn, a.Code, a.Cause, a.Cure
	}
	return []Check{c}
}

// Space is what a state directory's file system has and does.
type Space struct {
	Free, Total int64
	Sync        time.Duration // the median of some
	Err         error         // why nothing could be written there
	Full        bool          // Err is that there is no room
}

// Bounds of a healthy disk.
const (
	leastFree = 64 << 20
	warnFree  = 512 << 20
	slowSync  = 50 * time.Millisecond
)

// CheckDisk judges it.
func CheckDisk(s Space) Check {
	c := Check{Name: "disk", Verdict: Fine, Text: fmt.Sprintf("%s of %s free, fsync takes %v", size(s.Free), size(s.Total), s.Sync.Round(10*time.Microsecond))}
	switch {
	case s.Full, s.Err == nil && s.Free < leastFree:
		c.Verdict, c.Code = Fail, CodeDiskFull
		c.Text = fmt.Sprintf("%s of %s free: there is no room for messages", size(s.Free), size(s.Total))
		c.Cure = "free space on that file system, or move the state directory; what waits is listed by peermesh spool ls"
	case s.Err != nil:
		c.Verdict, c.Code, c.Text = Fail, CodeDisk, s.Err.Error()
		c.Cure = "make the directory writable for this user, and look at the disk: dmesg"
	case s.Free < warnFree:
		c.Verdict, c.Code, c.Cure = Warn, CodeDiskFull, "free space on that file system before it is full"
	case s.Sync > slowSync:
		c.Verdict, c.Code = Warn, "slow-sync"
		c.Cure = "a durable Send waits that long: put the state directory on an SSD, or send at level memory"
	}
	return c
}

// CheckSpool judges what keeps the messages.
func CheckSpool(d Disk) Check {
	c := Check{Name: "spool", Verdict: Fine, Text: size(d.Used) + " wait"}
	if d.Quota > 0 {
		c.Text += " of a quota of " + size(d.Quota)
	}
	switch {
	case d.Failed != "":
		c.Verdict, c.Code, c.Text = Fail, CodeDisk, "read-only: "+d.Failed
		c.Cure = "look at the disk (dmesg), then restart the node: it verifies what is there"
	case d.Damage != "":
		c.Verdict, c.Code, c.Text = Fail, "loss", "something was lost: "+d.Damage
		c.Cure = "peermesh spool verify shows the ranges; the senders and receivers were told"
	case d.Quota > 0 && d.Used >= d.Quota*9/10:
		c.Verdict, c.Code = Warn, CodeDiskFull
		if d.Used >= d.Quota {
			c.Verdict = Fail
		}
		c.Cure = "start receivers (peermesh why QUEUE says what holds them up), or raise the quota"
	}
	return c
}

// size is a number of bytes in words.
func size(n int64) string {
	for _, u := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
