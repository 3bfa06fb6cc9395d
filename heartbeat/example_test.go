package heartbeat_test

import (
	"context"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/heartbeat"
)

// printer is a server that prints what it is told.
type printer struct{ stop context.CancelFunc }

func (p printer) Register(context.Context) (string, time.Duration, error) {
	fmt.Println("register")
	return "2343f65eed2d4c6d", 30 * time.Second, nil
}

func (p printer) Heartbeat(_ context.Context, id string, b heartbeat.Beat) (heartbeat.Answer, error) {
	fmt.Println("beat:", id, b.Status)
	p.stop()
	return heartbeat.Answer{}, nil
}

// A loop needs a client that speaks to the server, and something to say.
func ExampleLoop() {
	ctx, stop := context.WithCancel(context.Background())
	loop, err := heartbeat.New(heartbeat.Config{
		Client:  printer{stop},
		Compose: func() heartbeat.Beat { return heartbeat.Beat{Status: heartbeat.StatusIdle} },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = loop.Run(ctx)
	// Output:
	// register
	// beat: 2343f65eed2d4c6d idle
}
