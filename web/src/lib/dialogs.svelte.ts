// Questions before something cannot be undone, and a name asked for; answered by a promise.

export type Question = {
  title: string;
  text: string;
  action: string;
  danger?: boolean;
  /** A text to enter, or one of some to choose; its present value. */
  input?: { label: string; value: string; options?: { value: string; label: string }[] };
};

class Dialogs {
  current = $state<Question | null>(null);
  private resolve: (answer: string | null) => void = () => {};

  private open(question: Question): Promise<string | null> {
    this.resolve(null);
    this.current = question;
    return new Promise((resolve) => (this.resolve = resolve));
  }

  answer(value: string | null): void {
    this.current = null;
    this.resolve(value);
    this.resolve = () => {};
  }

  async confirm(question: Omit<Question, "input">): Promise<boolean> {
    return (await this.open(question)) !== null;
  }

  ask(question: Question): Promise<string | null> {
    return this.open(question);
  }
}

export const dialogs = new Dialogs();
