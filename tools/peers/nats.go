package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-edge/holdfast/tools/bench/load"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsNode is one server: its number, client and cluster addresses of all, directory, and whether it syncs each message.
func natsNode(args []string) error {
	var number, port, cluster int
	var always bool
	if len(args) != 4 {
		return errors.New("node nats NUMBER:PORT:CLUSTER:ALWAYS ROUTES DIR NAME")
	}
	if _, err := fmt.Sscanf(args[0], "%d:%d:%d:%t", &number, &port, &cluster, &always); err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: args[3], Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: args[2], SyncAlways: always, NoSigs: true,
		Cluster: server.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: cluster}, Routes: server.RoutesFromStr(args[1]),
	})
	if err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	s.Start()
	<-end
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func natsOf(always bool) func(context.Context, *options, string) (*load.Target, func(), error) {
	return func(ctx context.Context, _ *options, dir string) (*load.Target, func(), error) {
		const n = 3
		ports, err := freePorts(2 * n)
		if err != nil {
			return nil, nil, err
		}
		var routes, urls []string
		for i := range n {
			routes = append(routes, "nats://"+local(ports[n+i]))
			urls = append(urls, "nats://"+local(ports[i]))
		}
		c := &cluster{dir: dir}
		for i := range n {
			if err := c.spawn(n, "nats", fmt.Sprintf("%d:%d:%d:%t", i, ports[i], ports[n+i], always), strings.Join(routes, ","),
				filepath.Join(dir, fmt.Sprint(i)), fmt.Sprintf("n%d", i)); err != nil {
				c.stop()
				return nil, nil, err
			}
		}
		if err := natsStream(ctx, urls[0]); err != nil {
			c.stop()
			return nil, nil, fmt.Errorf("%w\n%s", err, c.logs())
		}
		open := func(_ context.Context, op string, i int) (load.Client, error) {
			if op != "put" {
				return nil, fmt.Errorf("no operation %q", op)
			}
			return natsOpen(urls[i%len(urls)])
		}
		return &load.Target{PIDs: c.pids(), Open: open}, c.stop, nil
	}
}

// natsStream makes the stream when the cluster has a leader: three replicas in files, the newest message of each key.
func natsStream(ctx context.Context, url string) error {
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(200 * time.Millisecond) {
		var c *natsClient
		if c, err = natsOpen(url); err != nil {
			continue
		}
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err = c.js.CreateOrUpdateStream(try, jetstream.StreamConfig{
			Name: "bench", Subjects: []string{"b.>"}, Storage: jetstream.FileStorage, Replicas: 3, MaxMsgsPerSubject: 1,
		})
		cancel()
		_ = c.Close()
		if err == nil {
			return nil
		}
	}
	return errors.Join(err, ctx.Err())
}

type natsClient struct {
	nc *nats.Conn
	js jetstream.JetStream
}

func natsOpen(url string) (*natsClient, error) {
	nc, err := nats.Connect(url, nats.Timeout(5*time.Second))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &natsClient{nc, js}, nil
}

// Do publishes and waits for the acknowledgements; several messages are under way together.
func (n *natsClient) Do(ctx context.Context, keys, values [][]byte) error {
	subject := func(k []byte) string { return "b." + strings.ReplaceAll(string(k), "/", ".") }
	if len(keys) == 1 {
		_, err := n.js.Publish(ctx, subject(keys[0]), values[0])
		return err
	}
	var acks []jetstream.PubAckFuture
	for i := range keys {
		f, err := n.js.PublishAsync(subject(keys[i]), append([]byte(nil), values[i]...))
		if err != nil {
			return err
		}
		acks = append(acks, f)
	}
	for _, f := range acks {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (n *natsClient) Close() error {
	n.nc.Close()
	return nil
}
