typedef int cop_chat_to_come;
