//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A port is the relay's place in one cable. Two goroutines of its own, one a direction, carry the frames
// until close.
type port struct {
	host, bridge *os.File
	rules        atomic.Pointer[[]*activeRule]
	pumps        sync.WaitGroup
}

// openPort puts the relay between a host's cable and the cable to its bridge.
func openPort(name string) (*port, error) {
	host, err := openPacket(name)
	if err != nil {
		return nil, err
	}
	bridge, err := openPacket("r." + name)
	if err != nil {
		return nil, errors.Join(err, host.Close())
	}
	p := &port{host: host, bridge: bridge}
	p.rules.Store(&[]*activeRule{})
	p.pumps.Go(func() { p.pump(true, host, bridge) })
	p.pumps.Go(func() { p.pump(false, bridge, host) })
	return p, nil
}

// close takes the relay out, and waits until it carries nothing any more.
func (p *port) close() {
	_, _ = p.host.Close(), p.bridge.Close() // packet sockets hold nothing back that could fail
	p.pumps.Wait()
}

// An activeRule is a Rule in the form that frames are compared with, and its state.
type activeRule struct {
	Rule
	mac    []byte
	ips    [][]byte
	shaper *shaper
}

// follow replaces the rules. One that stays as it was keeps its counters and its place in the random numbers.
func (p *port) follow(rules []Rule) error {
	var active []*activeRule
	for _, rule := range rules {
		a := &activeRule{Rule: rule}
		for _, old := range *p.rules.Load() {
			if old.Key == rule.Key && old.Spec == rule.Spec && old.Cut == rule.Cut {
				a.shaper = old.shaper
			}
		}
		if a.shaper == nil {
			a.shaper = newShaper(rule.Spec, rule.Cut)
		}
		if rule.MAC != "" {
			hw, err := net.ParseMAC(rule.MAC)
			if err != nil {
				return err
			}
			a.mac = hw
		}
		for _, s := range rule.IPs {
			addr := net.ParseIP(s)
			if v4 := addr.To4(); v4 != nil {
				addr = v4
			}
			a.ips = append(a.ips, addr)
		}
		active = append(active, a)
	}
	p.rules.Store(&active)
	return nil
}

// pump carries the frames of one direction until the port is closed. What cannot be written, because a cable
// is pulled or a buffer is full, is lost as it would be on a wire.
func (p *port) pump(out bool, from, to *os.File) {
	q := newDelayQueue(to)
	defer q.close()
	buf := make([]byte, maxFrame)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, syscall.ENETDOWN) { // the cable is pulled
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			return
		}
		if n < offloadHeader+etherHeader {
			continue
		}
		finishChecksum(buf[:n])
		clear(buf[:offloadHeader]) // nothing is left to the hardware now
		frame := buf[offloadHeader:n]
		s := p.shaperFor(out, frame)
		if s == nil {
			_, _ = to.Write(buf[:n])
			continue
		}
		now := time.Now()
		for _, c := range s.pass(now, frame) {
			b := make([]byte, offloadHeader, offloadHeader+len(c.frame))
			q.send(now, c.at, append(b, c.frame...))
		}
	}
}

// shaperFor finds the first rule for a frame. Without one the frame passes.
func (p *port) shaperFor(out bool, frame []byte) *shaper {
	for _, a := range *p.rules.Load() {
		if a.Out == out && a.matches(frame) {
			return a.shaper
		}
	}
	return nil
}

// matches looks at the far end's address: where the frame goes to for Out, and else where it comes from.
func (a *activeRule) matches(frame []byte) bool {
	if a.mac == nil && a.ips == nil {
		return true
	}
	if a.mac != nil {
		hw := frame[6:12]
		if a.Out {
			hw = frame[0:6]
		}
		return bytes.Equal(hw, a.mac)
	}
	var addr []byte
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == syscall.ETH_P_IP && len(frame) >= etherHeader+20:
		addr = frame[26:30]
		if a.Out {
			addr = frame[30:34]
		}
	case kind == syscall.ETH_P_IPV6 && len(frame) >= etherHeader+40:
		addr = frame[22:38]
		if a.Out {
			addr = frame[38:54]
		}
	}
	for _, ip := range a.ips {
		if bytes.Equal(addr, ip) {
			return true
		}
	}
	return false
}

const (
	etherHeader   = 14
	offloadHeader = 10                            // struct virtio_net_hdr, which comes before each frame
	maxFrame      = offloadHeader + 65536 + 1<<10 // the kernel's largest packet, and its headers
)

// Socket options that package syscall lacks.
const (
	packetOffloadHeader  = 15 // PACKET_VNET_HDR
	packetIgnoreOutgoing = 23 // PACKET_IGNORE_OUTGOING
)

// openPacket opens an interface for reading and writing Ethernet frames.
func openPacket(dev string) (*os.File, error) {
	iface, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dev, err)
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: packet socket: %w", dev, err)
	}
	f := os.NewFile(uintptr(fd), dev)
	for _, o := range []struct{ level, option, value int }{
		{syscall.SOL_PACKET, packetOffloadHeader, 1},
		{syscall.SOL_PACKET, packetIgnoreOutgoing, 1},
		{syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 8 << 20},
		{syscall.SOL_SOCKET, syscall.SO_SNDBUFFORCE, 8 << 20},
	} {
		if err := syscall.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: socket option %d: %w", dev, o.option, err), f.Close())
		}
	}
	const all = (syscall.ETH_P_ALL<<8 | syscall.ETH_P_ALL>>8) & 0xffff // in network order
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: iface.Index}); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: bind: %w", dev, err), f.Close())
	}
	return f, nil
}
