package main

import (
	"fmt"
	"runtime"
	"time"
)

// printBench tells people what one run found.
func (a *app) printBench(p *benchPlan, r *benchResult) error {
	e := r.event(p)
	what, when := "messages", "at half that speed"
	if p.workload == workReq {
		what, when = "requests", "one at a time"
	}
	rows := [][]string{
		{p.workload, fmt.Sprintf("%d bytes, %d at a time, %d cores", p.size, p.concurrency, e.Cores)},
		{what, fmt.Sprintf("%.0f/s, %.1f MB/s", e.PerSecond, e.Bytes/1e6)},
		{"latency", fmt.Sprintf("p50 %s, p99 %s, p99.9 %s %s", us(r.p50), us(r.p99), us(r.p999), when)},
		{"cpu", fmt.Sprintf("%.2f s for a million, both processes", e.CPU)},
		{"memory", fmt.Sprintf("%.0f MB at most, both processes", float64(e.Memory)/1e6)},
	}
	if e.Disk != "" {
		rows = append(rows, []string{"disk", e.Disk}, []string{"one", fmt.Sprintf("waits for the disk p50 %s, p99 %s", us(e.One.P50), us(e.One.P99))})
	}
	if i := r.against(p); i >= 0 {
		of := "messages"
		if p.workload == workReq {
			of = "p50"
		}
		rows = append(rows, []string{"ratio", fmt.Sprintf("%.2f of the %s of %s", e.Ratio, of, r.programs[i].Name)})
	}
	for _, row := range rows {
		if _, err := fmt.Fprintf(a.stdout, "%-9s %s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	if len(r.programs) > 1 {
		fmt.Fprintln(a.stdout)
		if err := a.printPrograms(p, r); err != nil {
			return err
		}
	}
	if isTerminal(a.stdout) {
		fmt.Fprintln(a.stdout)
		r.latency.draw(a.stdout, 40)
	}
	return nil
}

// us writes microseconds.
func us(v float64) string { return brief(time.Duration(v * float64(time.Microsecond))) }

// programsHead stands above the table of programs. Ratios are those of the measured one
// to the row's.
const programsHead = `workload            program            messages/s      least ..   most   ratio least .. most   single p50  ratio    cpu s/M send+recv   peak MB send+recv
`

// printPrograms appends the rows of one workload to a table of all, and begins it with
// the first.
func (a *app) printPrograms(p *benchPlan, r *benchResult) error {
	if !a.benchHead {
		a.benchHead = true
		fmt.Fprintf(a.stdout, "%d cores, %d rounds\n%s", runtime.GOMAXPROCS(0), p.rounds, programsHead)
	}
	name := p.title()
	for _, f := range r.programs {
		ratio, single, singleRatio := "", "", ""
		if f.Ratio != nil {
			ratio = fmt.Sprintf("%5.2f %5.2f .. %.2f", f.Ratio.Median, f.Ratio.Min, f.Ratio.Max)
		}
		if f.Single != nil {
			single = us(f.Single.Median)
		}
		if f.SingleRatio != nil {
			singleRatio = fmt.Sprintf("%.2f", f.SingleRatio.Median)
		}
		cpu := fmt.Sprintf("%.2f + %.2f", f.SendCPU, f.ReceiveCPU)
		peak := fmt.Sprintf("%.0f + %.0f", float64(f.SendMemory)/1e6, float64(f.ReceiveMemory)/1e6)
		_, err := fmt.Fprintf(a.stdout, "%-19s %-14s %14s %10s .. %6s   %-20s %10s %6s %19s %19s\n", name, f.Name, amount(f.PerSecond.Median),
			amount(f.PerSecond.Min), amount(f.PerSecond.Max), ratio, single, singleRatio, cpu, peak)
		if err != nil {
			return err
		}
		name = ""
	}
	if v := r.verdict; v != nil && !v.OK {
		_, err := fmt.Fprintf(a.stdout, "not to be believed: %s is %.2f, and %.1f where nothing disturbs\n", v.What, v.Ratio.Median, v.Least)
		return err
	}
	return nil
}

// title names the workload in a table.
func (p *benchPlan) title() string {
	switch p.workload {
	case workPub:
		return fmt.Sprintf("pub 1->%d %d B", p.subscribers, p.size)
	case workReq:
		return fmt.Sprintf("req c=%d %d B", p.concurrency, p.size)
	}
	return fmt.Sprintf("%s %d B", p.workload, p.size)
}

// amount writes a number with three digits or a few more.
func amount(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0fk", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}
