package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// control makes a control message as the kernel does.
func control(level, kind int, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	const word = unix.SizeofCmsghdr - 8 // of the length
	if word == 8 {
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(data))))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(unix.CmsgLen(len(data))))
	}
	binary.NativeEndian.PutUint32(b[word:], uint32(level))
	binary.NativeEndian.PutUint32(b[word+4:], uint32(kind))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func sizeMessage(size int32) []byte {
	return control(unix.IPPROTO_UDP, unix.UDP_GRO, binary.NativeEndian.AppendUint32(nil, uint32(size)))
}

var (
	tos  = control(unix.IPPROTO_IP, unix.IP_TOS, []byte{2})
	info = control(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 12))
)

func TestTheSizeOfATrainsPacketsIsBelievedOnlyIfItMakesSense(t *testing.T) {
	for name, c := range map[string]struct {
		oob    []byte
		train  int
		size   int
		others []byte
	}{
		"no control message":          {nil, 3000, 3000, nil},
		"a size":                      {sizeMessage(1452), 3000, 1452, nil},
		"one byte each":               {sizeMessage(1), 3000, 1, nil},
		"a size before others":        {slices.Concat(sizeMessage(1000), tos, info), 3000, 1000, slices.Concat(tos, info)},
		"a size between others":       {slices.Concat(tos, sizeMessage(1000), info), 3000, 1000, slices.Concat(tos, info)},
		"others alone":                {slices.Concat(tos, info), 3000, 3000, slices.Concat(tos, info)},
		"zero":                        {sizeMessage(0), 3000, 3000, nil},
		"negative":                    {sizeMessage(-5), 3000, 3000, nil},
		"longer than the train":       {sizeMessage(5000), 3000, 3000, nil},
		"two bytes":                   {control(unix.IPPROTO_UDP, unix.UDP_GRO, []byte{5, 0}), 3000, 3000, nil},
		"no bytes":                    {control(unix.IPPROTO_UDP, unix.UDP_GRO, nil), 3000, 3000, nil},
		"of an empty packet":          {sizeMessage(10), 0, 0, nil},
		"cut in the header":           {sizeMessage(1000)[:unix.SizeofCmsghdr-1], 3000, 3000, nil},
		"cut in the value":            {sizeMessage(1000)[:unix.CmsgLen(2)], 3000, 3000, nil},
		"damage behind a size":        {slices.Concat(sizeMessage(1000), tos, make([]byte, 40)), 3000, 1000, tos},
		"a length beyond the end":     {slices.Concat(tos, bytes.Repeat([]byte{0xff}, 24)), 3000, 3000, tos},
		"the kind at another level":   {control(unix.IPPROTO_IP, unix.UDP_GRO, make([]byte, 4)), 3000, 3000, control(unix.IPPROTO_IP, unix.UDP_GRO, make([]byte, 4))},
		"another kind at that level":  {control(unix.IPPROTO_UDP, unix.UDP_SEGMENT, make([]byte, 4)), 3000, 3000, control(unix.IPPROTO_UDP, unix.UDP_SEGMENT, make([]byte, 4))},
		"the last of two sizes":       {slices.Concat(sizeMessage(1000), sizeMessage(500)), 3000, 500, nil},
		"a size that is the train's":  {sizeMessage(3000), 3000, 3000, nil},
		"a few bytes behind the last": {slices.Concat(tos, []byte{1, 2, 3}), 3000, 3000, tos},
	} {
		size, others := packetSize(bytes.Clone(c.oob), c.train)
		if size != c.size || !bytes.Equal(others, c.others) {
			t.Errorf("%s: size %d, others %x; want %d, %x", name, size, others, c.size, c.others)
		}
	}
}

func FuzzPacketSize(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add(slices.Concat(sizeMessage(1452), tos, info), 20000)
	f.Add(slices.Concat(tos, sizeMessage(-1), info[:20]), 5)
	f.Fuzz(func(t *testing.T, oob []byte, train int) {
		if train < 0 || train > trainBytes || len(oob) > trainControl {
			return
		}
		given := bytes.Clone(oob)
		size, others := packetSize(oob, train)
		if size > train || size < 1 && train > 0 {
			t.Errorf("packets of %d bytes in a train of %d", size, train)
		}
		if len(others) > len(given) {
			t.Errorf("%d bytes of control messages out of %d", len(others), len(given))
		}
		for rest := others; len(rest) > 0; { // as quic-go reads them, to which an error is the end
			var err error
			if len(rest) < unix.SizeofCmsghdr {
				t.Fatalf("%d bytes behind the last of %x", len(rest), others)
			}
			if _, _, rest, err = unix.ParseOneSocketControlMessage(rest); err != nil {
				t.Fatalf("%x: %v", others, err)
			}
		}
	})
}

// kernel hands over trains as recvmmsg does, some at a time.
type kernel struct {
	trains [][]train
	err    error
}

type train struct {
	data string
	oob  []byte
	from *net.UDPAddr
}

func (k *kernel) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	if len(k.trains) == 0 {
		return 0, k.err
	}
	batch := k.trains[0]
	k.trains = k.trains[1:]
	for i, tr := range batch {
		ms[i].N, ms[i].NN, ms[i].Addr = copy(ms[i].Buffers[0], tr.data), copy(ms[i].OOB, tr.oob), tr.from
	}
	return len(batch), nil
}

// readAll reads packets at most so many at a time, into buffers of 8 bytes, until an
// error.
func readAll(t *testing.T, c *trainConn, atOnce int) (packets []string, err error) {
	t.Helper()
	ms := make([]ipv4.Message, atOnce)
	for {
		for i := range ms {
			ms[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 8)}, OOB: make([]byte, 128)}
		}
		n, err := c.ReadBatch(ms, 0)
		if err != nil {
			return packets, err
		}
		if n == 0 {
			t.Fatal("no packet and no error: QUIC would take what it has for packets")
		}
		for _, m := range ms[:n] {
			packets = append(packets, fmt.Sprintf("%s %x %v", m.Buffers[0][:m.N], m.OOB[:m.NN], m.Addr))
		}
	}
}

func TestTrainsAreTakenApartPacketByPacket(t *testing.T) {
	a, b := &net.UDPAddr{IP: net.IPv4(1, 1, 1, 1), Port: 1}, &net.UDPAddr{IP: net.IPv6loopback, Port: 2}
	over := errors.New("over")
	trains := [][]train{
		{{"aaaabbbbcc", slices.Concat(sizeMessage(4), tos), a}, {"dd", tos, b}, {"", nil, a}},
		{{"eeeeffff", sizeMessage(4), b}},
		{{"a packet that is longer than the buffer", nil, a}},
		{{"gg", bytes.Repeat(tos, 8), b}}, // more than the reader takes
	}
	want := []string{
		fmt.Sprintf("aaaa %x %v", tos, a), fmt.Sprintf("bbbb %x %v", tos, a), fmt.Sprintf("cc %x %v", tos, a),
		fmt.Sprintf("dd %x %v", tos, b), fmt.Sprintf("  %v", a),
		fmt.Sprintf("eeee  %v", b), fmt.Sprintf("ffff  %v", b), fmt.Sprintf("a packet  %v", a), fmt.Sprintf("gg  %v", b),
	}
	for _, atOnce := range []int{1, 2, 3, 8} {
		got, err := readAll(t, newTrainConn(nil, &kernel{slices.Clone(trains), over}, 0), atOnce)
		if !errors.Is(err, over) || !slices.Equal(got, want) {
			t.Errorf("%d at a time: %v, ended with %v\n got %s\nwant %s", atOnce, err == over, err, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

// reluctant has nothing for who does not wait, for so many times.
type reluctant struct {
	kernel
	times, waits, asked int
}

func (r *reluctant) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if r.asked++; flags&unix.MSG_DONTWAIT == 0 {
		r.waits++
	} else if r.asked <= r.times {
		return 0, unix.EAGAIN
	}
	return r.kernel.ReadBatch(ms, 0)
}

func TestAPolledSocketIsLookedAtAgainBeforeItIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		poll         time.Duration
		times, waits int
	}{
		{time.Hour, 3, 0}, // it is there in time
		{time.Nanosecond, 1 << 20, 1},
		{0, 0, 1},
	} {
		k := &reluctant{kernel: kernel{[][]train{{{"a", nil, nil}}}, nil}, times: c.times}
		ms := []ipv4.Message{{Buffers: [][]byte{make([]byte, 8)}}}
		if n, err := newTrainConn(nil, k, c.poll).ReadBatch(ms, 0); n != 1 || err != nil || ms[0].N != 1 || k.waits != c.waits {
			t.Errorf("poll %v: %d packets, %v, waited for %d times; want 1 packet and %d", c.poll, n, err, k.waits, c.waits)
		}
	}
	k := &reluctant{kernel: kernel{nil, net.ErrClosed}, times: 3}
	if _, err := newTrainConn(nil, k, time.Hour).ReadBatch(make([]ipv4.Message, 1), 0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a socket that closes while it is polled: %v", err)
	}
}

// A socket of this machine: what is sent in one go arrives packet by packet, whether or
// not its kernel makes a train of it.
func TestWhatIsSentInOneGoArrivesPacketByPacket(t *testing.T) {
	for i, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		t.Run(address, func(t *testing.T) {
			poll := time.Duration(i) * time.Millisecond
			addr, err := net.ResolveUDPAddr("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			udp, err := net.ListenUDP("udp", addr)
			if err != nil {
				t.Skip(err) // no IPv6 here
			}
			conn := readTrains(udp, poll)
			defer conn.Close()
			to := conn.LocalAddr().(*net.UDPAddr)
			if to.IP.IsUnspecified() {
				to = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: to.Port}
			}
			out, err := net.DialUDP("udp", nil, to)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			segment := control(unix.IPPROTO_UDP, unix.UDP_SEGMENT, binary.NativeEndian.AppendUint16(nil, 1000))
			sent := append(bytes.Repeat([]byte{'x'}, 10_000), "end"...)
			if _, _, err := out.WriteMsgUDP(sent, segment, nil); err != nil {
				t.Skip(err) // no UDP_SEGMENT here
			}
			buf := make([]byte, 2000)
			for i := range 11 {
				want := 1000
				if i == 10 {
					want = 3
				}
				n, from, err := conn.ReadFrom(buf)
				if err != nil || n != want || from.(*net.UDPAddr).Port != out.LocalAddr().(*net.UDPAddr).Port {
					t.Fatalf("packet %d: %d bytes from %v, %v; want %d from %v", i, n, from, err, want, out.LocalAddr())
				}
			}
		})
	}
}

func TestAClosedSocketReadsNothing(t *testing.T) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	conn := readTrains(udp, 0)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, from, err := conn.ReadFrom(nil); !errors.Is(err, net.ErrClosed) || from != nil {
		t.Errorf("from %v, %v", from, err)
	}
	if c := readTrains(udp, 0); c != net.PacketConn(udp) {
		t.Errorf("a socket that cannot be asked became %T", c)
	}
}

// What a packet costs to read, alone and among others, from a plain socket and by trains:
//
//	go test -run '^$' -bench ReadBatch ./node
func BenchmarkReadBatch(b *testing.B) {
	for name, open := range map[string]func(*net.UDPConn) net.PacketConn{
		"plain":  func(c *net.UDPConn) net.PacketConn { return c },
		"trains": func(c *net.UDPConn) net.PacketConn { return readTrains(c, 0) },
	} {
		for _, packets := range []int{1, 14} {
			b.Run(fmt.Sprintf("%s/%d", name, packets), func(b *testing.B) { readBatches(b, open, packets) })
		}
	}
}

func readBatches(b *testing.B, open func(*net.UDPConn) net.PacketConn, packets int) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	conn := open(udp)
	defer conn.Close()
	reader, ok := conn.(batchReader)
	if !ok {
		reader = ipv4.NewPacketConn(conn)
	}
	out, err := net.DialUDP("udp", nil, conn.LocalAddr().(*net.UDPAddr))
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	ms := make([]ipv4.Message, 8) // as QUIC has them
	for i := range ms {
		ms[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 1452)}, OOB: make([]byte, 128)}
	}
	segment := control(unix.IPPROTO_UDP, unix.UDP_SEGMENT, binary.NativeEndian.AppendUint16(nil, 1200))
	sent := make([]byte, 1200*packets)
	for b.Loop() {
		if _, _, err := out.WriteMsgUDP(sent, segment, nil); err != nil {
			b.Fatal(err)
		}
		for read := 0; read < packets; {
			n, err := reader.ReadBatch(ms, 0)
			if err != nil {
				b.Fatal(err)
			}
			read += n
		}
	}
}
