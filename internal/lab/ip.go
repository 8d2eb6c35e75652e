//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// execute runs a program and turns what it printed into the error if it was not content.
func execute(stdin string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func ip(args ...string) error { return execute("", "ip", args...) }

// script runs shell lines, and then lines for ip -batch, in a namespace.
func script(namespace, shell, batch string) error {
	if shell != "" {
		if err := execute("", "ip", "netns", "exec", namespace, "sh", "-ec", shell); err != nil {
			return err
		}
	}
	return execute(batch, "ip", "-n", namespace, "-batch", "-")
}

func checkTools() error {
	if os.Geteuid() != 0 {
		return skipError{"must run as root"}
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return skipError{"no ip command (install iproute2)"}
	}
	return nil
}

// checkKernel tries in a throw-away namespace what a lab needs of the kernel.
func checkKernel() (err error) {
	ns := fmt.Sprintf("labcheck-%d", os.Getpid())
	if err := ip("netns", "add", ns); err != nil {
		return skipError{"no network namespaces: " + err.Error()}
	}
	defer func() { err = errors.Join(err, ip("netns", "del", ns)) }()
	for _, try := range []struct{ what, cmd string }{
		{"veth pairs", "link add v0 type veth peer name v1"},
		{"bridges", "link add br0 type bridge"},
		{"IPv6", "-6 addr add fd77::1/64 dev lo"},
	} {
		if err := ip(append([]string{"-n", ns}, strings.Fields(try.cmd)...)...); err != nil {
			return skipError{"kernel without " + try.what + ": " + err.Error()}
		}
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0)
	if err != nil {
		return skipError{"kernel without packet sockets: " + err.Error()}
	}
	if err := syscall.Close(fd); err != nil {
		return err
	}
	if err := hideSubnets(ns, []int{1}); err != nil {
		fmt.Println("ok, but without NAT subnets:", err)
		return nil
	}
	fmt.Println("ok")
	return nil
}

// hideSubnets makes a router hide the subnets behind the interfaces of these numbers, and let nothing into
// them that was not asked for from inside.
func hideSubnets(namespace string, eths []int) error {
	if _, err := exec.LookPath("nft"); err != nil {
		return skipError{"NAT needs the nft command (install nftables)"}
	}
	var r strings.Builder
	r.WriteString("table inet lab {\n chain guard {\n  type filter hook forward priority 0\n  ct state established,related accept\n")
	for _, n := range eths {
		fmt.Fprintf(&r, "  oifname \"eth%d\" drop\n", n)
	}
	r.WriteString(" }\n chain hide {\n  type nat hook postrouting priority 100\n")
	for _, n := range eths {
		fmt.Fprintf(&r, "  iifname \"eth%d\" oifname != \"eth%d\" masquerade\n", n, n)
	}
	r.WriteString(" }\n}\n")
	if err := execute(r.String(), "ip", "netns", "exec", namespace, "nft", "-f", "-"); err != nil {
		return skipError{"NAT needs nftables in the kernel: " + err.Error()}
	}
	return nil
}
