// Command pipeline counts every message exactly once, although the process in the middle is
// killed again and again:
//
//	numbers --> squarer (another process, killed three times) --> squares --> sum
//
// The squarer acks a number and sends its square in one transaction, and the office acks
// the square and adds it to the sum in one. So whenever a process ends, each number is either
// handled or not, and never half.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"

	"peermesh/node"
	"peermesh/socket"
)

const count = 100

func main() {
	office := flag.String("squarer-for", "", "be the process in the middle; the office's address")
	dir := flag.String("dir", "", "its state directory")
	flag.Parse()
	ctx := context.Background()
	var err error
	if *office != "" {
		err = squarer(ctx, *office, *dir)
	} else {
		err = run(ctx)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "pipeline")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// Transactions need a Dir: what is on disk is what has happened.
	n, err := node.Open(ctx, node.Config{Name: "office", Dir: filepath.Join(dir, "office"), Listen: "127.0.0.1:0", NoMDNS: true})
	if err != nil {
		return err
	}
	defer n.Close()
	numbers, err := n.Push("numbers")
	if err != nil {
		return err
	}
	squares, err := n.Pull("squares")
	if err != nil {
		return err
	}
	go func() {
		for i := range count {
			if err := numbers.Send(ctx, number(i+1)); err != nil {
				log.Print(err)
			}
		}
	}()

	worker, err := start(n.Addr().String(), filepath.Join(dir, "squarer"))
	if err != nil {
		return err
	}
	defer func() { end(worker) }()
	killed := 0
	for i := 1; i <= count; i++ {
		m, err := squares.Recv(ctx)
		if err != nil {
			return err
		}
		err = n.Tx(ctx, func(tx *node.Tx) error {
			return errors.Join(
				tx.Put("squares", number(value(tx.Get("squares"))+1)),
				tx.Put("sum", number(value(tx.Get("sum"))+value(m.Body))),
				tx.Ack(m))
		})
		if err != nil {
			return err
		}
		if i%25 == 0 && i < count {
			end(worker)
			killed++
			if worker, err = start(n.Addr().String(), filepath.Join(dir, "squarer")); err != nil {
				return err
			}
		}
	}
	if err := numbers.Flush(ctx); err != nil {
		return err
	}
	n1, err1 := n.Get(ctx, "squares")
	sum, err2 := n.Get(ctx, "sum")
	fmt.Printf("the squarer was killed %d times\n", killed)
	fmt.Printf("%d numbers, %d squares, sum %d\n", count, value(n1), value(sum))
	return errors.Join(err1, err2)
}

// squarer is the process in the middle. It ends when its input does.
func squarer(ctx context.Context, office, dir string) error {
	n, err := node.Open(ctx, node.Config{Name: "squarer", Dir: dir, Listen: "127.0.0.1:0", NoMDNS: true, Peers: []string{office}})
	if err != nil {
		return err
	}
	numbers, err := n.Pull("numbers")
	if err != nil {
		return errors.Join(err, n.Close())
	}
	squares, err := n.Push("squares")
	if err != nil {
		return errors.Join(err, n.Close())
	}
	// Eight at a time, so that they share the wait for the disk. When the transaction is on
	// disk the number is acked; when it is not, it comes again.
	go numbers.Handle(ctx, 8, func(ctx context.Context, m *socket.Message) error {
		return n.Tx(ctx, func(tx *node.Tx) error {
			i := value(m.Body)
			return errors.Join(tx.Send(squares, &socket.Message{Body: number(i * i)}), tx.Ack(m))
		})
	})
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, n.Close())
}

// start starts the process in the middle.
func start(office, dir string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-squarer-for", office, "-dir", dir)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // ends when this process does
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd, nil
}

// end kills a process, as a power cut would: it is not asked.
func end(worker *exec.Cmd) {
	if worker == nil {
		return
	}
	if err := worker.Process.Kill(); err != nil {
		log.Print(err)
	}
	if err := worker.Wait(); err == nil {
		log.Print("the process in the middle had ended by itself")
	}
}

func number(i int) []byte { return binary.AppendVarint(nil, int64(i)) }

// value reads a number; what is not there is 0.
func value(b []byte) int {
	i, _ := binary.Varint(b)
	return int(i)
}
