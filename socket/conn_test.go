package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

func TestDuplexCarriesBothWaysInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := Duplex()
		big := filler(3*duplexBuffer + 7)
		for _, way := range [][2]Conn{{a, b}, {b, a}} {
			go func() {
				if n, err := way[0].Write(big); n != len(big) || err != nil {
					t.Errorf("Write: %d, %v", n, err)
				}
			}()
			got := make([]byte, len(big))
			if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, big) {
				t.Fatalf("read %v, equal %v", err, bytes.Equal(got, big))
			}
		}
	})
}

func TestDuplexHoldsNoMoreThanItsBuffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := Duplex()
		wrote := make(chan int, 1)
		go func() {
			n, err := a.Write(filler(duplexBuffer + 1))
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write: %v, want it closed", err)
			}
			wrote <- n
		}()
		synctest.Wait()
		select {
		case n := <-wrote:
			t.Fatalf("Write of one byte too many returned %d", n)
		default:
		}
		b.Close()
		if n := <-wrote; n != duplexBuffer {
			t.Errorf("wrote %d, want %d", n, duplexBuffer)
		}
	})
}

func TestDuplexCloseWriteLetsTheRestBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := Duplex()
		a.Write([]byte("last"))
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write after CloseWrite: %v", err)
		}
		b.Write([]byte("answer"))
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if string(got) != "last" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := a.Read(make([]byte, 9)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write to a closed end: %v", err)
		}
	})
}

func TestDuplexCloseUnblocksReadersAndWriters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := Duplex()
		ended := make(chan error, 4)
		read := func(c Conn) { _, err := c.Read(make([]byte, 1)); ended <- err }
		write := func(c Conn) { _, err := c.Write(filler(duplexBuffer + 1)); ended <- err }
		go write(a)
		synctest.Wait()
		go read(a)
		synctest.Wait()
		a.Close()
		for range 2 {
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("ended with %v", err)
			}
		}
		go write(b)
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	})
}
