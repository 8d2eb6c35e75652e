package node

import (
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// readTrains makes a UDP socket one that reads many packets with one system call, where
// the kernel can do that (Linux 5.0). The socket is the result's from then on.
func readTrains(c *net.UDPConn, poll time.Duration) net.PacketConn {
	raw, err := c.SyscallConn()
	if err != nil {
		return c
	}
	var refused error
	err = raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
	if err != nil || refused != nil {
		return c
	}
	return newTrainConn(c, ipv4.NewPacketConn(c), poll)
}

// trainConn is a UDP socket with UDP_GRO, see udp(7): what one sender sent in one go the
// kernel hands over as one train, packets of one size end to end, only the last one may
// be shorter, and a control message tells the size. They are taken apart here; QUIC takes
// any socket that has ReadBatch as it takes a plain one.
//
//	recvmmsg     [ 1452 | 1452 | 1452 | 700 ] size 1452,   [ 52 ]
//	ReadBatch      1452,  1452,  1452,  700,                 52
//
// One goroutine may read, any number may do the rest.
type trainConn struct {
	allButReading
	batches batchReader
	trains  [trainsAtOnce]ipv4.Message
	poll    time.Duration

	read []ipv4.Message // trains that were read and are not all handed out
	rest []byte         // what is left of the first of them
	size int            // of its packets
	oob  []byte         // control messages that go with each of its packets
}

const (
	trainsAtOnce = 8         // of one system call, as many as QUIC asks for packets
	trainBytes   = 1<<16 - 1 // the kernel makes no longer one, and no packet is longer
	trainControl = 256       // twice what QUIC has the kernel tell with a packet, and the size
)

// allButReading is what a trainConn leaves to the socket.
type allButReading interface {
	Close() error
	LocalAddr() net.Addr
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	SyscallConn() (syscall.RawConn, error)
	WriteTo(b []byte, to net.Addr) (int, error)
	WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error)
}

// batchReader is recvmmsg.
type batchReader interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
}

var _ quic.OOBCapablePacketConn = (*trainConn)(nil)

func newTrainConn(c allButReading, r batchReader, poll time.Duration) *trainConn {
	t := &trainConn{allButReading: c, batches: r, poll: poll}
	for i := range t.trains {
		t.trains[i].Buffers, t.trains[i].OOB = [][]byte{make([]byte, trainBytes)}, make([]byte, trainControl)
	}
	return t
}

// ReadBatch fills each message with a packet, as many as there are, and waits for one if
// there is none. As with a plain socket, what does not fit a buffer is cut off.
func (t *trainConn) ReadBatch(ms []ipv4.Message, flags int) (n int, err error) {
	for len(t.read) == 0 {
		if n, err = t.readOn(flags); err != nil {
			return 0, err
		}
		t.read = t.trains[:n]
		t.enter()
	}
	for n = 0; n < len(ms) && len(t.read) > 0; n++ {
		packet := t.rest[:min(t.size, len(t.rest))]
		m := &ms[n]
		m.Addr, m.Flags, m.N, m.NN = t.read[0].Addr, 0, copy(m.Buffers[0], packet), 0
		if len(t.oob) <= len(m.OOB) { // part of a message would be taken for damage
			m.NN = copy(m.OOB, t.oob)
		}
		if t.rest = t.rest[len(packet):]; len(t.rest) == 0 {
			t.read = t.read[1:]
			t.enter()
		}
	}
	return n, nil
}

// readOn reads trains, and looks for them for Config.Poll before it sleeps.
func (t *trainConn) readOn(flags int) (int, error) {
	if t.poll > 0 && flags&unix.MSG_DONTWAIT == 0 {
		for began := time.Now(); time.Since(began) < t.poll; runtime.Gosched() {
			n, err := t.batches.ReadBatch(t.trains[:], flags|unix.MSG_DONTWAIT)
			if !errors.Is(err, unix.EAGAIN) {
				return n, err
			}
		}
	}
	return t.batches.ReadBatch(t.trains[:], flags)
}

// enter begins the next train, if there is one.
func (t *trainConn) enter() {
	if len(t.read) > 0 {
		m := &t.read[0]
		t.rest = m.Buffers[0][:m.N]
		t.size, t.oob = packetSize(m.OOB[:m.NN], m.N)
	}
}

// ReadMsgUDP is ReadBatch of one packet.
func (t *trainConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	ms := []ipv4.Message{{Buffers: [][]byte{b}, OOB: oob}}
	if _, err := t.ReadBatch(ms, 0); err != nil {
		return 0, 0, 0, nil, err
	}
	from, _ = ms[0].Addr.(*net.UDPAddr)
	return ms[0].N, ms[0].NN, 0, from, nil
}

// ReadFrom is ReadBatch of one packet without control messages.
func (t *trainConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, _, _, from, err := t.ReadMsgUDP(b, nil)
	if err != nil {
		return 0, nil, err // and no *net.UDPAddr that is nil
	}
	return n, from, nil
}

// packetSize takes the kernel's word on the packets of a train of so many bytes out of
// its control messages; without one, or with a nonsensical one, the train is one packet.
// Others are the messages before any damage. They take the place of oob, which changes.
func packetSize(oob []byte, train int) (size int, others []byte) {
	size, others = train, oob[:0]
	for len(oob) >= unix.SizeofCmsghdr {
		head, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if head.Level == unix.IPPROTO_UDP && head.Type == unix.UDP_GRO {
			if len(data) == 4 {
				if told := int(int32(binary.NativeEndian.Uint32(data))); told > 0 && told < train {
					size = told
				}
			}
		} else {
			others = append(others, oob[:len(oob)-len(rest)]...)
		}
		oob = rest
	}
	return size, others
}
